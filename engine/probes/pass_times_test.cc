#include "engine/probes/pass_times.h"

#include <cmath>

#include <gtest/gtest.h>

namespace normlab::engine {
namespace {

TEST(PassTimesTest, AColdStartAndHiccupsDoNotMoveTheMedian) {
  PassTimes times;
  EXPECT_EQ(times.Median(), 0);
  times.Add(30);
  for (const double seconds : {0.25, 0.5, 0.375, 9.0}) {
    times.Add(seconds);
  }
  EXPECT_EQ(times.Median(), 0.5);
  times.Add(0.25);
  EXPECT_EQ(times.Median(), 0.4375);  // the middle of 0.375 and 0.5
}

TEST(PassTimesTest, OldTimesAreForgotten) {
  PassTimes times;
  for (int i = 0; i < 500; ++i) {
    times.Add(8);
  }
  for (int i = 0; i < 101; ++i) {
    times.Add(i < 50 ? 1 : 2);
  }
  EXPECT_EQ(times.Median(), 2);
}

TEST(PassTimesTest, TheThreadsTimeGrowsWithItsWork) {
  const double start = ThreadCpuSeconds();
  double sum = 0;
  int rounds = 0;
  while (ThreadCpuSeconds() == start && rounds < 1'000'000) {
    sum += std::sin(static_cast<double>(++rounds));
  }
  EXPECT_GT(ThreadCpuSeconds(), start) << sum;
}

}  // namespace
}  // namespace normlab::engine
