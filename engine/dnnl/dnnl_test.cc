#include <cstdint>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "engine/dnnl/primitives.h"

namespace normlab::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Runtime TestRuntime() {
  auto runtime = Runtime::Create();
  EXPECT_TRUE(runtime.ok()) << runtime.status();
  return *runtime;
}

TEST(LayoutTest, KnowsItsShapeAndOrder) {
  const Layout plain = Layout::RowMajor({2, 3, 5, 7});
  EXPECT_THAT(plain.dims(), ElementsAre(2, 3, 5, 7));
  EXPECT_EQ(plain.bytes(), 2 * 3 * 5 * 7 * 4);
  EXPECT_TRUE(plain.is_row_major());
  EXPECT_EQ(plain.ToString(), "2x3x5x7");
  const Layout last = Layout::ChannelsLast({2, 3, 5, 7});
  EXPECT_FALSE(last.is_row_major());
  EXPECT_NE(plain, last);
  EXPECT_EQ(plain, Layout::RowMajor({2, 3, 5, 7}));
  EXPECT_TRUE(Layout().empty());
}

TEST(ReorderTest, MovesChannelsLast) {
  const Runtime runtime = TestRuntime();
  std::vector<float> x = {0, 1, 2, 3, 4, 5};  // one 2x1x3 image
  std::vector<float> y(6, -1);
  BufferPool pool;
  auto op =
      MakeReorder(runtime, Layout::RowMajor({1, 2, 1, 3}), Layout::ChannelsLast({1, 2, 1, 3}));
  ASSERT_TRUE(op.ok()) << op.status();
  ASSERT_TRUE(op->Bind(Arg::kSource, pool.Borrow(x.data(), 6)).ok());
  ASSERT_TRUE(op->Bind(Arg::kDestination, pool.Borrow(y.data(), 6)).ok());
  ASSERT_TRUE(op->Connect().ok());
  op->Run();
  EXPECT_THAT(y, ElementsAre(0, 3, 1, 4, 2, 5));
}

TEST(OpTest, RefusesMissingAndSmallBuffers) {
  const Runtime runtime = TestRuntime();
  auto op = MakeInnerProductForward(runtime, Layout::RowMajor({2, 3}), Layout::RowMajor({5, 3}),
                                    Layout::RowMajor({2, 5}),
                                    /*bias=*/false,
                                    /*training=*/true);
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
                                          /*bias=*/true,
                                          /*training=*/true);
  ASSERT_FALSE(op.ok());
  EXPECT_EQ(op.status().code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(op.status().message()), HasSubstr("an inner product"));
}

TEST(RuntimeTest, NamesTheLibrary) {
  EXPECT_THAT(OneDnnVersion(), HasSubstr("."));
  EXPECT_FALSE(CpuIsaName().empty());
}

}  // namespace
}  // namespace normlab::engine
