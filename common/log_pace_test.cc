#include "common/log_pace.h"

#include <optional>

#include <gtest/gtest.h>

namespace normlab::common {
namespace {

TEST(LogPaceTest, WritesTheFirstAndThenOneAnInterval) {
  LogPace pace(absl::Minutes(1));
  const absl::Duration begin = absl::Hours(3);
  EXPECT_EQ(pace.Count(begin), 1);
  for (int i = 1; i < 60; ++i) {
    EXPECT_EQ(pace.Count(begin + absl::Seconds(i)), std::nullopt) << i;
  }
  EXPECT_EQ(pace.Count(begin + absl::Seconds(60)), 60) << "those that were left out count";
  EXPECT_EQ(pace.Count(begin + absl::Seconds(61)), std::nullopt);
  EXPECT_EQ(pace.Count(begin + absl::Hours(1)), 2);
}

}  // namespace
}  // namespace normlab::common
