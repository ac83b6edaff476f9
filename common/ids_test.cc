#include "common/ids.h"

#include <set>

#include <gtest/gtest.h>

namespace normlab::common {
namespace {

TEST(IdsTest, IdsAreUniqueAndSortByTime) {
  const absl::Time start = absl::FromUnixMillis(1'800'000'000'000);
  std::set<std::string> ids;
  std::string previous;
  for (int i = 0; i < 1000; ++i) {
    const std::string id = NewId(start + absl::Milliseconds(i));
    EXPECT_TRUE(IsId(id)) << id;
    EXPECT_LT(previous, id);
    EXPECT_TRUE(ids.insert(id).second);
    previous = id;
  }
  EXPECT_NE(NewId(start), NewId(start));
}

TEST(IdsTest, OnlyOurAlphabetAndLengthPass) {
  const std::string id = NewId(absl::FromUnixMillis(1));
  EXPECT_FALSE(IsId(""));
  EXPECT_FALSE(IsId(id.substr(1)));
  EXPECT_FALSE(IsId(id + "0"));
  EXPECT_FALSE(IsId("../../../etc/passwd0"));
  EXPECT_FALSE(IsId(id.substr(0, 19) + "I"));
}

TEST(IdsTest, RandomBytesDiffer) {
  EXPECT_EQ(RandomBytes(32).size(), 32U);
  EXPECT_NE(RandomBytes(32), RandomBytes(32));
}

}  // namespace
}  // namespace normlab::common
