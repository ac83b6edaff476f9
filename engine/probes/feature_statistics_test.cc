#include "engine/probes/feature_statistics.h"

#include <cmath>
#include <limits>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace normlab::engine {
namespace {

constexpr double kTolerance = 1e-9;

TEST(FeatureStatisticsTest, MomentsAreOfAllValuesAndOfEachChannel) {
  // [2, 2, 1, 2]
  const std::vector<float> values = {1, 3, 0, 0, 5, 7, 0, 4};
  const FeatureBatch features = {.batch = 2, .dims = {2, 1, 2}, .values = values};
  const Moments all = MomentsOf(features);
  EXPECT_NEAR(all.mean, 2.5, kTolerance);
  EXPECT_NEAR(all.variance, 100.0 / 8 - 2.5 * 2.5, kTolerance);
  const std::vector<Moments> channels = ChannelMoments(features);
  EXPECT_NEAR(channels[0].mean, 4, kTolerance);
  EXPECT_NEAR(channels[0].variance, 5, kTolerance);
  EXPECT_NEAR(channels[1].mean, 1, kTolerance);
  EXPECT_NEAR(channels[1].variance, 3, kTolerance);
}

TEST(FeatureStatisticsTest, AChannelIsDeadWhenItIsZeroOnTheWholeBatch) {
  const std::vector<float> values = {1, 0, 0, 2, 0, 0, 0, 0, 1e-30F};
  EXPECT_NEAR(DeadFraction({.batch = 3, .dims = {3}, .values = values}), 1.0 / 3, kTolerance);
}

TEST(FeatureStatisticsTest, ShiftIsTheMeanDistanceOfMeanAndDeviation) {
  const std::vector<Moments> before = {{0, 1}, {2, 4}};
  const std::vector<Moments> after = {{3, 25}, {2, 9}};  // distances 5 and 1
  EXPECT_NEAR(MomentShift(before, after), 3, kTolerance);
}

TEST(FeatureStatisticsTest, OrthogonalFeaturesHaveFullRanksAndACollapsedBatchHasRankOne) {
  const std::vector<float> identity = {3, 0, 0, 0, 0, 3, 0, 0, 0, 0, 3, 0};
  const Ranks full = RanksOf({.batch = 3, .dims = {4}, .values = identity}, 1);
  EXPECT_NEAR(full.soft, 3, kTolerance);
  EXPECT_NEAR(full.effective, 3, kTolerance);
  const std::vector<float> collapsed = {1, 2, -4, 2, 4, -8, 3, 6, -12, 1, 2, -4, 0, 0, 0};
  const Ranks one = RanksOf({.batch = 5, .dims = {3}, .values = collapsed}, 1);
  EXPECT_NEAR(one.soft, 1, kTolerance);
  EXPECT_NEAR(one.effective, 1, 1e-6);
}

TEST(FeatureStatisticsTest, RanksFollowFromSingularValues) {
  // Singular values 4 and 3: soft (16 + 9)^2 / (256 + 81); effective exp(-sum p ln p), p = 4/7, 3/7.
  const std::vector<float> values = {4, 0, 0, 3, 0, 0};
  const Ranks ranks = RanksOf({.batch = 3, .dims = {2}, .values = values}, 1);
  EXPECT_NEAR(ranks.soft, 625.0 / 337, kTolerance);
  EXPECT_NEAR(ranks.effective,
              std::exp(-(4.0 / 7 * std::log(4.0 / 7) + 3.0 / 7 * std::log(3.0 / 7))), 1e-9);
  const std::vector<float> zeros(6);
  EXPECT_EQ(RanksOf({.batch = 3, .dims = {2}, .values = zeros}, 1).soft, 0);
  const std::vector<float> broken = {1, std::numeric_limits<float>::infinity()};
  EXPECT_TRUE(std::isnan(RanksOf({.batch = 1, .dims = {2}, .values = broken}, 1).effective));
}

TEST(FeatureStatisticsTest, ImagesAreRowsOfPixelsAndManyAreSampled) {
  // 2 channels that are equal everywhere, of 4 x 31 x 31 pixels: rank 1, whichever rows are drawn.
  std::vector<float> values;
  for (int n = 0; n < 4; ++n) {
    for (int copy = 0; copy < 2; ++copy) {
      for (int i = 0; i < 31 * 31; ++i) {
        values.push_back(static_cast<float>((i * 7 + n) % 13) - 6);
      }
    }
  }
  EXPECT_NEAR(RanksOf({.batch = 4, .dims = {2, 31, 31}, .values = values}, 5).soft, 1, kTolerance);
}

}  // namespace
}  // namespace normlab::engine
