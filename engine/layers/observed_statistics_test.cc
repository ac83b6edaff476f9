#include "engine/layers/observed_statistics.h"

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace normlab::engine {
namespace {

// What plain loops over pixels [n, c, p] of one set say.
struct Moments {
  double mean = 0;
  double var = 0;
  double mean_square = 0;
};

class ObservedStatisticsTest : public ::testing::Test {
 protected:
  // [4, 6, 3, 2]: no two sizes are equal, and every example and channel is far from the others.
  static constexpr int64_t kBatch = 4, kChannels = 6, kArea = 6;

  ObservedStatisticsTest() : x_(kBatch * kChannels * kArea) {
    for (size_t i = 0; i < x_.size(); ++i) {
      x_[i] = static_cast<float>(std::sin(static_cast<double>(i)) * 3 + static_cast<double>(i / 6));
    }
  }

  Moments Of(int64_t n0, int64_t n1, int64_t c0, int64_t c1) const {
    std::vector<double> values;
    for (int64_t n = n0; n < n1; ++n) {
      for (int64_t c = c0; c < c1; ++c) {
        for (int64_t p = 0; p < kArea; ++p) {
          values.push_back(x_[static_cast<size_t>((n * kChannels + c) * kArea + p)]);
        }
      }
    }
    Moments moments;
    for (const double value : values) {
      moments.mean += value / static_cast<double>(values.size());
      moments.mean_square += value * value / static_cast<double>(values.size());
    }
    for (const double value : values) {
      moments.var += std::pow(value - moments.mean, 2) / static_cast<double>(values.size());
    }
    return moments;
  }

  std::map<std::string, ObservedStatistic> Observe(const NodeKind& kind) const {
    std::map<std::string, ObservedStatistic> named;
    for (ObservedStatistic& observed : ObserveStatistics(kind, {kChannels, 3, 2}, kBatch, x_)) {
      named[observed.name] = std::move(observed);
    }
    return named;
  }

  std::vector<float> x_;
};

// Both sides sum at most 144 doubles of size 30.
constexpr double kTolerance = 1e-11;

TEST_F(ObservedStatisticsTest, BatchAndGhostSets) {
  const auto batch = Observe(BatchNormNode());
  ASSERT_EQ(batch.at("mean").dims, Dims{kChannels});
  for (int64_t c = 0; c < kChannels; ++c) {
    const Moments expected = Of(0, kBatch, c, c + 1);
    EXPECT_NEAR(batch.at("mean").values[static_cast<size_t>(c)], expected.mean, kTolerance);
    EXPECT_NEAR(batch.at("var").values[static_cast<size_t>(c)], expected.var, kTolerance);
  }
  const auto ghost = Observe(GhostBatchNormNode{.size = 2});
  ASSERT_EQ(ghost.at("var").dims, (Dims{2, kChannels}));
  EXPECT_NEAR(ghost.at("mean").values[kChannels + 2], Of(2, 4, 2, 3).mean, kTolerance);
  EXPECT_NEAR(ghost.at("var").values[5], Of(0, 2, 5, 6).var, kTolerance);
}

TEST_F(ObservedStatisticsTest, SetsWithinAnExample) {
  const auto layer = Observe(GroupNormNode{.groups = 1});
  ASSERT_EQ(layer.at("mean").dims, Dims{kBatch});
  EXPECT_NEAR(layer.at("var").values[3], Of(3, 4, 0, kChannels).var, kTolerance);
  const auto group = Observe(GroupNormNode{.groups = 2});
  ASSERT_EQ(group.at("mean").dims, (Dims{kBatch, 2}));
  EXPECT_NEAR(group.at("mean").values[5], Of(2, 3, 3, 6).mean, kTolerance);
  const auto instance = Observe(GroupNormNode{.groups = kChannels});
  ASSERT_EQ(instance.at("var").dims, (Dims{kBatch, kChannels}));
  EXPECT_NEAR(instance.at("var").values[kChannels + 4], Of(1, 2, 4, 5).var, kTolerance);
  const auto rms = Observe(RmsNormNode());
  ASSERT_EQ(rms.at("mean_square").dims, Dims{kBatch});
  EXPECT_NEAR(rms.at("mean_square").values[2], Of(2, 3, 0, kChannels).mean_square, kTolerance);
  const auto response = Observe(FilterResponseNode());
  ASSERT_EQ(response.at("mean_square").dims, (Dims{kBatch, kChannels}));
  EXPECT_NEAR(response.at("mean_square").values[kChannels], Of(1, 2, 0, 1).mean_square, kTolerance);
}

TEST_F(ObservedStatisticsTest, ScalesOfLpNorms) {
  x_[0] = -1000;
  const auto l2 = Observe(LpBatchNormNode{.power = LpBatchNormNode::Power::kTwo});
  EXPECT_NEAR(l2.at("scale").values[0], std::sqrt(Of(0, kBatch, 0, 1).mean_square),
              kTolerance * 1e3);
  const auto largest = Observe(LpBatchNormNode{.power = LpBatchNormNode::Power::kInfinity});
  EXPECT_EQ(largest.at("scale").values[0], 1000);
  EXPECT_NEAR(largest.at("mean").values[1], Of(0, kBatch, 1, 2).mean, kTolerance);
  const auto l1 = Observe(LpBatchNormNode{.power = LpBatchNormNode::Power::kOne});
  EXPECT_GT(l1.at("scale").values[0], 1000.0 / (kBatch * kArea));
  EXPECT_LT(l1.at("scale").values[0], l2.at("scale").values[0]);
  x_[1] = std::nanf("");
  EXPECT_TRUE(std::isnan(
      Observe(LpBatchNormNode{.power = LpBatchNormNode::Power::kInfinity}).at("scale").values[0]));
}

TEST_F(ObservedStatisticsTest, WhatHasNoStatisticsShowsNone) {
  EXPECT_TRUE(Observe(DynamicTanhNode()).empty());
  EXPECT_TRUE(Observe(FrozenBatchNormNode()).empty());
  EXPECT_TRUE(Observe(NoisyBatchNormNode{.normalize = false}).empty());
  EXPECT_EQ(Observe(NoisyBatchNormNode()).size(), 2U);
  EXPECT_EQ(Observe(MeanOnlyBatchNormNode()).size(), 1U);
}

}  // namespace
}  // namespace normlab::engine
