#include <cmath>
#include <numbers>
#include <string>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "engine/dnnl/testing.h"

namespace normlab::engine {
namespace {

using testing::ExpectClose;
using testing::NameOf;
using testing::OpRunner;
using testing::RandomValues;
using testing::TestRuntime;
using testing::Values;

// oneDNN approximates exp, tanh and erf by polynomials that are good to a few units of 2^-24 of
// results up to 4.
constexpr double kSlack = 2e-6;

double Sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}

double Phi(double x) {
  return std::erfc(-x / std::numbers::sqrt2) / 2;
}

double Value(EltwiseKind kind, double alpha, double x) {
  switch (kind) {
    case EltwiseKind::kRelu:
      return std::max(x, 0.0);
    case EltwiseKind::kLeakyRelu:
      return x > 0 ? x : alpha * x;
    case EltwiseKind::kElu:
      return x > 0 ? x : alpha * std::expm1(x);
    case EltwiseKind::kSigmoid:
      return Sigmoid(x);
    case EltwiseKind::kTanh:
      return std::tanh(x);
    case EltwiseKind::kGelu:
      return x * Phi(x);
    case EltwiseKind::kSwish:
      return x * Sigmoid(x);
  }
  return NAN;
}

// The derivative, from what the backward op reads: x, or y.
double Slope(EltwiseKind kind, double alpha, double from) {
  const double x = from;
  const double y = from;
  switch (kind) {
    case EltwiseKind::kRelu:
      return y > 0 ? 1 : 0;
    case EltwiseKind::kLeakyRelu:
      return y > 0 ? 1 : alpha;
    case EltwiseKind::kElu:
      return y > 0 ? 1 : y + alpha;
    case EltwiseKind::kSigmoid:
      return y * (1 - y);
    case EltwiseKind::kTanh:
      return 1 - y * y;
    case EltwiseKind::kGelu:
      return Phi(x) + x * std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi);
    case EltwiseKind::kSwish:
      return Sigmoid(x) * (1 + x * (1 - Sigmoid(x)));
  }
  return NAN;
}

struct EltwiseCase {
  EltwiseKind kind;
  const char* name;
  float alpha;
};

class EltwiseTest : public ::testing::TestWithParam<std::tuple<EltwiseCase, DataType>> {};

TEST_P(EltwiseTest, BothPassesMatchTheLoops) {
  const auto& [test, type] = GetParam();
  NORMLAB_SKIP_WITHOUT(type);
  for (const Layout& layout :
       {Layout::RowMajor({7, 11}, type), Layout::ChannelsLast({2, 19, 3, 5}, type)}) {
    SCOPED_TRACE(layout.ToString());
    const int64_t count = layout.element_count();
    Values x = RandomValues(count, 1, type, -4, 4);
    x[1] = 0;
    const Values d_y = RandomValues(count, 2, type);
    Values y;
    for (const double value : x) {
      y.push_back(Value(test.kind, test.alpha, value));
    }
    OpRunner forward(
        MakeEltwiseForward(TestRuntime(), test.kind, layout, /*training=*/true, test.alpha));
    forward.Set(Arg::kSource, x);
    forward.Run();
    const Values got = forward.Get(Arg::kDestination);
    ExpectClose(got, y, 4, type, kSlack, "y by " + forward.op().implementation());

    OpRunner backward(
        MakeEltwiseBackward(TestRuntime(), test.kind, layout, forward.op(), test.alpha));
    const Arg from = EltwiseBackwardFrom(test.kind);
    const bool from_source = from == Arg::kSource;
    EXPECT_EQ(backward.op().has(Arg::kSource), from_source);
    EXPECT_EQ(backward.op().has(Arg::kDestination), !from_source);
    const Values& data = from_source ? x : got;
    backward.Set(from, data);
    backward.Set(Arg::kDiffDestination, d_y);
    backward.Run();
    Values d_x;
    for (size_t i = 0; i < data.size(); ++i) {
      d_x.push_back(d_y[i] * Slope(test.kind, test.alpha, data[i]));
    }
    ExpectClose(backward.Get(Arg::kDiffSource), d_x, 4, type, kSlack,
                "d_x by " + backward.op().implementation());
  }
}

INSTANTIATE_TEST_SUITE_P(
    Kinds,
    EltwiseTest,
    ::testing::Combine(::testing::Values(EltwiseCase{EltwiseKind::kRelu, "Relu", 1},
                                         EltwiseCase{EltwiseKind::kLeakyRelu, "LeakyRelu", 0.01F},
                                         EltwiseCase{EltwiseKind::kElu, "Elu", 1},
                                         EltwiseCase{EltwiseKind::kElu, "EluOfAnotherAlpha", 0.7F},
                                         EltwiseCase{EltwiseKind::kSigmoid, "Sigmoid", 1},
                                         EltwiseCase{EltwiseKind::kTanh, "Tanh", 1},
                                         EltwiseCase{EltwiseKind::kGelu, "Gelu", 1},
                                         EltwiseCase{EltwiseKind::kSwish, "Swish", 1}),
                       ::testing::Values(DataType::kF32, DataType::kBf16)),
    [](const auto& of) {
      return absl::StrCat(std::get<0>(of.param).name, NameOf(std::get<1>(of.param)));
    });

class AddTest : public ::testing::TestWithParam<DataType> {};
INSTANTIATE_TEST_SUITE_P(Types,
                         AddTest,
                         ::testing::Values(DataType::kF32, DataType::kBf16),
                         [](const auto& of) { return NameOf(of.param); });

TEST_P(AddTest, AddsAndClips) {
  const DataType type = GetParam();
  NORMLAB_SKIP_WITHOUT(type);
  for (const Layout& layout :
       {Layout::RowMajor({7, 11}, type), Layout::ChannelsLast({2, 19, 3, 5}, type)}) {
    const Values a = RandomValues(layout.element_count(), 1, type);
    const Values b = RandomValues(layout.element_count(), 2, type);
    for (const bool relu : {false, true}) {
      SCOPED_TRACE(absl::StrCat(layout.ToString(), relu ? " relu" : ""));
      OpRunner op(MakeAdd(TestRuntime(), layout, relu));
      op.Set(Arg::kSource, a);
      op.Set(Arg::kSource1, b);
      op.Run();
      Values want;
      for (size_t i = 0; i < a.size(); ++i) {
        want.push_back(relu ? std::max(a[i] + b[i], 0.0) : a[i] + b[i]);
      }
      // One rounding of a single-precision sum below 2.
      ExpectClose(op.Get(Arg::kDestination), want, 1, type, 0x1p-24, op.op().implementation());
    }
  }
}

TEST(AddTest, MayOverwriteItsFirstSource) {
  const Layout layout = Layout::RowMajor({3, 37});
  auto op = MakeAdd(TestRuntime(), layout);
  ASSERT_TRUE(op.ok()) << op.status();
  std::vector<float> a(111, 1.5F);
  std::vector<float> b(111, 0.25F);
  BufferPool pool;
  Buffer* scratchpad = pool.Reserve(op->layout(Arg::kScratchpad).bytes(), 0, true);
  ASSERT_TRUE(pool.Allocate().ok());
  const Buffer* sum = pool.Borrow(a.data(), 111);
  ASSERT_TRUE(op->Bind(Arg::kSource, sum).ok());
  ASSERT_TRUE(op->Bind(Arg::kSource1, pool.Borrow(b.data(), 111)).ok());
  ASSERT_TRUE(op->Bind(Arg::kDestination, sum).ok());
  ASSERT_TRUE(op->Bind(Arg::kScratchpad, scratchpad).ok());
  ASSERT_TRUE(op->Connect().ok());
  op->Run();
  EXPECT_EQ(a, std::vector<float>(111, 1.75F));
}

}  // namespace
}  // namespace normlab::engine
