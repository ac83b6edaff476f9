#include "engine/dnnl/testing.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <numeric>
#include <utility>

#include "gtest/gtest.h"

namespace normlab::engine::testing {
namespace {

constexpr Arg kAllArguments[] = {Arg::kSource,    Arg::kSource1,         Arg::kWeights,
                                 Arg::kBias,      Arg::kDestination,     Arg::kMean,
                                 Arg::kVariance,  Arg::kScale,           Arg::kShift,
                                 Arg::kWorkspace, Arg::kDiffSource,      Arg::kDiffWeights,
                                 Arg::kDiffBias,  Arg::kDiffDestination, Arg::kDiffScale,
                                 Arg::kDiffShift, Arg::kScratchpad};

int64_t Count(const Layout& layout) {
  const std::vector<int64_t> dims = layout.dims();
  return std::accumulate(dims.begin(), dims.end(), int64_t{1}, std::multiplies<>());
}

void Reorder(const Layout& from,
             const Layout& to,
             const std::byte* source,
             std::byte* destination) {
  BufferPool pool;
  absl::StatusOr<Op> op = MakeReorder(TestRuntime(), from, to);
  ASSERT_TRUE(op.ok()) << op.status();
  Buffer* scratchpad = pool.Reserve(op->layout(Arg::kScratchpad).bytes(), 0, true);
  Buffer* in = pool.Reserve(from.bytes(), 0, true);
  Buffer* out = pool.Reserve(to.bytes(), 0, true);
  ASSERT_TRUE(pool.Allocate().ok());
  std::memcpy(in->data, source, static_cast<size_t>(from.bytes()));
  ASSERT_TRUE(op->Bind(Arg::kSource, in).ok());
  ASSERT_TRUE(op->Bind(Arg::kDestination, out).ok());
  ASSERT_TRUE(op->Bind(Arg::kScratchpad, scratchpad).ok());
  ASSERT_TRUE(op->Connect().ok());
  op->Run();
  std::memcpy(destination, out->data, static_cast<size_t>(to.bytes()));
}

}  // namespace

const Runtime& TestRuntime() {
  static const Runtime* const runtime = [] {
    absl::StatusOr<Runtime> made = Runtime::Create();
    EXPECT_TRUE(made.ok()) << made.status();
    return new Runtime(*std::move(made));
  }();
  return *runtime;
}

Values RandomValues(int64_t count, uint32_t seed, DataType type, double low, double high) {
  Values values(static_cast<size_t>(count));
  uint64_t state = (uint64_t{seed} + 1) * 0x9e3779b97f4a7c15U;
  for (double& value : values) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    const double uniform = static_cast<double>(state >> 40U) / static_cast<double>(1U << 24U);
    const auto single = static_cast<float>(low + uniform * (high - low));
    value = type == DataType::kBf16 ? FromBf16(ToBf16(single)) : single;
  }
  return values;
}

void Store(const Values& values, const Layout& layout, std::byte* memory) {
  ASSERT_EQ(static_cast<int64_t>(values.size()), Count(layout));
  const std::vector<float> singles(values.begin(), values.end());
  Reorder(Layout::RowMajor(layout.dims()), layout,
          reinterpret_cast<const std::byte*>(singles.data()), memory);
}

Values Load(const Layout& layout, const std::byte* memory) {
  std::vector<float> singles(static_cast<size_t>(Count(layout)));
  Reorder(layout, Layout::RowMajor(layout.dims()), memory,
          reinterpret_cast<std::byte*>(singles.data()));
  return {singles.begin(), singles.end()};
}

OpRunner::OpRunner(absl::StatusOr<Op> op)
    : op_([&op] {
        EXPECT_TRUE(op.ok()) << op.status();
        if (!op.ok()) {
          std::abort();
        }
        return *std::move(op);
      }()) {
  for (const Arg arg : kAllArguments) {
    if (op_.has(arg)) {
      buffers_[arg] = pool_.Reserve(op_.layout(arg).bytes(), 0, true);
      EXPECT_TRUE(op_.Bind(arg, buffers_[arg]).ok());
    }
  }
  EXPECT_TRUE(pool_.Allocate().ok());
  for (const auto& [arg, buffer] : buffers_) {
    std::memset(buffer->data, 0xff, static_cast<size_t>(buffer->bytes));
  }
  EXPECT_TRUE(op_.Connect().ok());
}

void OpRunner::Set(Arg arg, const Values& values) {
  if (op_.has(arg)) {
    Store(values, op_.layout(arg), buffers_.at(arg)->data);
  }
}

void OpRunner::Copy(Arg arg, const OpRunner& from) {
  ASSERT_EQ(op_.layout(arg), from.op_.layout(arg));
  std::memcpy(buffers_.at(arg)->data, from.buffers_.at(arg)->data,
              static_cast<size_t>(op_.layout(arg).bytes()));
}

Values OpRunner::Get(Arg arg) const {
  return Load(op_.layout(arg), buffers_.at(arg)->data);
}

double Rounding(DataType result) {
  return result == DataType::kBf16 ? 0x1p-8 : 0;
}

void ExpectClose(const Values& got,
                 const Values& want,
                 const Values& magnitude,
                 DataType result,
                 double slack,
                 const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  ASSERT_EQ(magnitude.size(), want.size()) << what;
  for (size_t i = 0; i < want.size(); ++i) {
    const double allowed = Rounding(result) * std::abs(want[i]) + slack * magnitude[i];
    // Written so that NaN fails.
    ASSERT_TRUE(std::abs(got[i] - want[i]) <= allowed)
        << what << " at " << i << ": got " << got[i] << ", want " << want[i] << " within "
        << allowed;
  }
}

void ExpectClose(const Values& got,
                 const Values& want,
                 double magnitude,
                 DataType result,
                 double slack,
                 const std::string& what) {
  ExpectClose(got, want, Values(want.size(), magnitude), result, slack, what);
}

}  // namespace normlab::engine::testing
