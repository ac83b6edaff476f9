#include "engine/dnnl/op.h"

#include <cmath>
#include <cstdlib>
#include <limits>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "engine/dnnl/testing.h"

namespace normlab::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::OpRunner;
using testing::RandomValues;
using ::testing::StartsWith;
using testing::TestRuntime;
using testing::Values;

TEST(ReorderTest, MovesChannelsLast) {
  std::vector<float> x = {0, 1, 2, 3, 4, 5};  // one 2x1x3 image
  std::vector<float> y(6, -1);
  BufferPool pool;
  auto op = MakeReorder(TestRuntime(), Layout::RowMajor({1, 2, 1, 3}),
                        Layout::ChannelsLast({1, 2, 1, 3}));
  ASSERT_TRUE(op.ok()) << op.status();
  ASSERT_TRUE(op->Bind(Arg::kSource, pool.Borrow(x.data(), 6)).ok());
  ASSERT_TRUE(op->Bind(Arg::kDestination, pool.Borrow(y.data(), 6)).ok());
  ASSERT_TRUE(op->Connect().ok());
  op->Run();
  EXPECT_THAT(y, ElementsAre(0, 3, 1, 4, 2, 5));
}

TEST(ReorderTest, ConvertsTypesWithOrWithoutMoving) {
  NORMLAB_SKIP_WITHOUT(DataType::kBf16);
  const std::vector<int64_t> dims = {3, 5, 7, 11};
  const Layout layouts[] = {Layout::RowMajor(dims), Layout::ChannelsLast(dims)};
  // Full singles and one of each special kind.
  Values x = RandomValues(3 * 5 * 7 * 11, /*seed=*/1);
  x[3] = std::numeric_limits<float>::infinity();
  x[4] = 1 + 0x1p-8;  // halfway between two
  for (const Layout& from : layouts) {
    for (const Layout& to : layouts) {
      SCOPED_TRACE(from.ToString() + " to " + to.ToString());
      OpRunner narrow(MakeReorder(TestRuntime(), from, to.WithType(DataType::kBf16)));
      narrow.Set(Arg::kSource, x);
      narrow.Run();
      const Values y = narrow.Get(Arg::kDestination);
      for (size_t i = 0; i < x.size(); ++i) {
        ASSERT_EQ(y[i], FromBf16(ToBf16(static_cast<float>(x[i])))) << "element " << i;
      }
      OpRunner widen(MakeReorder(TestRuntime(), to.WithType(DataType::kBf16), from));
      widen.Set(Arg::kSource, y);
      widen.Run();
      EXPECT_EQ(widen.Get(Arg::kDestination), y);
    }
  }
}

TEST(OpTest, RefusesMissingAndSmallBuffers) {
  auto op = MakeInnerProductForward(TestRuntime(), Layout::RowMajor({2, 3}),
                                    Layout::RowMajor({5, 3}), Layout::RowMajor({2, 5}),
                                    /*bias=*/false, /*training=*/true);
  ASSERT_TRUE(op.ok()) << op.status();
  EXPECT_FALSE(op->has(Arg::kBias));
  EXPECT_EQ(op->layout(Arg::kDestination), Layout::RowMajor({2, 5}));
  EXPECT_FALSE(op->implementation().empty());
  std::vector<float> small(5);
  BufferPool pool;
  EXPECT_EQ(op->Bind(Arg::kSource, pool.Borrow(small.data(), 5)).code(),
            absl::StatusCode::kInternal);
  EXPECT_TRUE(op->Bind(Arg::kBias, nullptr).ok()) << "it has none, so none is needed";
  EXPECT_EQ(op->Connect().code(), absl::StatusCode::kInternal);
}

TEST(OpTest, LibraryErrorsBecomeStatuses) {
  // Inner sizes that differ: oneDNN throws, we return.
  const auto op = MakeInnerProductForward(TestRuntime(), Layout::RowMajor({2, 4}),
                                          Layout::RowMajor({5, 3}), Layout::RowMajor({2, 5}),
                                          /*bias=*/true, /*training=*/true);
  ASSERT_FALSE(op.ok());
  EXPECT_EQ(op.status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(op.status().message()), HasSubstr("an inner product"));
}

TEST(RuntimeTest, NamesTheLibraryAndTheMachine) {
  EXPECT_THAT(OneDnnVersion(), ::testing::ContainsRegex("^[23]\\.[0-9]+\\.[0-9]+$"));
  EXPECT_THAT(CpuIsaName(), ::testing::Not(StartsWith("ISA_")));
  // 3.x has no Winograd kernels on x86, 2.x has them for AVX-512.
  EXPECT_EQ(HasWinograd(), OneDnnVersion()[0] == '2' && CpuIsaName().rfind("AVX512", 0) == 0);
}

TEST(RuntimeTest, ComputesInBf16WhereOpsOfItCanBeMade) {
  const auto op = MakeInnerProductForward(TestRuntime(), Layout::RowMajor({2, 3}, DataType::kBf16),
                                          Layout::RowMajor({5, 3}, DataType::kBf16),
                                          Layout::RowMajor({2, 5}, DataType::kBf16),
                                          /*bias=*/false, /*training=*/true);
  EXPECT_EQ(op.ok(), ComputesInBf16()) << op.status();
  EXPECT_TRUE(ComputesInBf16() || !HasBf16Kernels());
}

// CMakeLists.txt runs the whole program once more with this limit.
TEST(RuntimeTest, RespectsTheLimitOfInstructionSets) {
  const char* const limit = std::getenv("ONEDNN_MAX_CPU_ISA");
  if (limit == nullptr || std::string(limit) != "AVX2") {
    GTEST_SKIP() << "runs with ONEDNN_MAX_CPU_ISA=AVX2";
  }
  EXPECT_EQ(CpuIsaName(), "AVX2");
  EXPECT_FALSE(HasBf16Kernels());
  EXPECT_FALSE(HasWinograd());
  const auto op = MakeInnerProductForward(TestRuntime(), Layout::RowMajor({2, 3}, DataType::kBf16),
                                          Layout::RowMajor({5, 3}, DataType::kBf16),
                                          Layout::RowMajor({2, 5}, DataType::kBf16),
                                          /*bias=*/false, /*training=*/true);
  EXPECT_EQ(op.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(op.status().message()), HasSubstr("choose another precision"));
}

}  // namespace
}  // namespace normlab::engine
