#include "common/edit_distance.h"

#include "gtest/gtest.h"

namespace normlab::common {
namespace {

TEST(EditDistanceTest, CountsInsertionsDeletionsReplacementsAndSwaps) {
  EXPECT_EQ(EditDistance("", ""), 0);
  EXPECT_EQ(EditDistance("conv1", "conv1"), 0);
  EXPECT_EQ(EditDistance("", "abc"), 3);
  EXPECT_EQ(EditDistance("conv", "conv1"), 1);
  EXPECT_EQ(EditDistance("conv12", "conv1"), 1);
  EXPECT_EQ(EditDistance("conv1", "canv1"), 1);
  EXPECT_EQ(EditDistance("bacth", "batch"), 1);  // neighbours swapped
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3);
}

}  // namespace
}  // namespace normlab::common
