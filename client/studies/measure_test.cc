#include "client/studies/measure.h"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace normlab::client::studies {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
const double kNan = std::nan("");

SeedRun Job(v1::Job::State state) {
  SeedRun seed;
  seed.job.set_state(state);
  return seed;
}

TEST(MeasureTest, DivergedJobsCountAsChanceAndUnfinishedOnesNot) {
  SeedRun succeeded = Job(v1::Job::SUCCEEDED);
  succeeded.series["test/accuracy"] = {{0, 60}, {0.1, 0.8}};
  EXPECT_EQ(FinalAccuracy(succeeded, "test/accuracy"), 0.8);
  SeedRun diverged = succeeded;
  diverged.job.set_state(v1::Job::DIVERGED);
  EXPECT_EQ(FinalAccuracy(diverged, "test/accuracy"), 0.1);
  EXPECT_EQ(RecentMean(diverged, "test/accuracy", 2, 0.1), 0.1);
  for (const auto state : {v1::Job::RUNNING, v1::Job::FAILED, v1::Job::CANCELLED}) {
    SeedRun other = succeeded;
    other.job.set_state(state);
    EXPECT_TRUE(std::isnan(FinalAccuracy(other, "test/accuracy")));
    EXPECT_TRUE(std::isnan(RecentMean(other, "test/accuracy", 2, 0.1)));
  }
  EXPECT_NEAR(RecentMean(succeeded, "test/accuracy", 2, 0.1), 0.45, 1e-15);
}

TEST(MeasureTest, LogarithmsOfOverflowsAreLarge) {
  SeedRun seed = Job(v1::Job::SUCCEEDED);
  seed.series["s"] = {{0, 50, 100, 150}, {10, 1000, kInfinity, kNan}};
  EXPECT_NEAR(MeanLog10(seed, "s"), (1 + 3 + 9) / 3.0, 1e-12);
  EXPECT_NEAR(MeanLog10(seed, "s", 50), (3 + 9) / 2.0, 1e-12);
  EXPECT_EQ(Median(seed, "s"), 1000);
  EXPECT_TRUE(std::isnan(MeanLog10(seed, "t")));
  EXPECT_NEAR(LogRatio(100, 1), 2, 1e-15);
  EXPECT_EQ(LogRatio(kInfinity, 1), kLargestLogRatio);
  EXPECT_EQ(LogRatio(1, kInfinity), -kLargestLogRatio);
  EXPECT_EQ(LogRatio(1e-30, 1), -kLargestLogRatio);
  EXPECT_EQ(LogRatio(0, 0), 0);
  EXPECT_TRUE(std::isnan(LogRatio(kInfinity, kInfinity)));
}

TEST(MeasureTest, ThePlateauIsLeftWhenTheMeanOfTwentyStepsIsLow) {
  SeedRun seed = Job(v1::Job::SUCCEEDED);
  for (int step = 0; step < 100; ++step) {
    seed.series["train/loss"].steps.push_back(step);
    seed.series["train/loss"].values.push_back(step == 50 ? 0.1 : 2.3);
  }
  EXPECT_FALSE(LeftPlateau(seed, 2.0));  // one lucky batch
  for (int step = 60; step < 80; ++step) {
    seed.series["train/loss"].values[static_cast<size_t>(step)] = 1.9;
  }
  EXPECT_TRUE(LeftPlateau(seed, 2.0));
  EXPECT_FALSE(LeftPlateau(Job(v1::Job::SUCCEEDED), 2.0));
}

CellRun TwoSeeds() {
  CellRun cell;
  cell.seeds = {Job(v1::Job::SUCCEEDED), Job(v1::Job::SUCCEEDED)};
  cell.seeds[0].series["s"] = {{0, 1, 2, 3}, {1, 2, 3, 4}};
  cell.seeds[1].series["s"] = {{0, 1, 2}, {3, 4, 5}};
  return cell;
}

TEST(MeasureTest, CurvesAreMeansOverSeedsAtTheStepsThatAllHave) {
  const report::Line line = Curve(TwoSeeds(), "s", "name");
  EXPECT_THAT(line.x, ElementsAre(0, 1, 2));
  EXPECT_THAT(line.y, ElementsAre(2, 3, 4));
  EXPECT_THAT(line.low, ElementsAre(1, 2, 3));
  EXPECT_THAT(line.high, ElementsAre(3, 4, 5));
  const report::Line thin = Curve(TwoSeeds(), "s", "name", 2);
  EXPECT_THAT(thin.x, ElementsAre(0.5, 2));
  EXPECT_THAT(thin.y, ElementsAre(2.5, 4));
  EXPECT_THAT(Curve(TwoSeeds(), "t", "name").x, IsEmpty());
}

TEST(MeasureTest, ASeedWithoutTheSeriesTakesNothingFromTheOthers) {
  CellRun cell = TwoSeeds();
  cell.seeds.push_back(Job(v1::Job::FAILED));
  EXPECT_THAT(Curve(cell, "s", "name").y, ElementsAre(2, 3, 4));
}

TEST(MeasureTest, BandsGoFromOneSeriesToTheOther) {
  CellRun cell;
  cell.seeds = {Job(v1::Job::SUCCEEDED)};
  cell.seeds[0].series["low"] = {{0, 50}, {1, -2}};
  cell.seeds[0].series["high"] = {{0, 50}, {4, 6}};
  const report::Line line = Band(cell, "low", "high", "name");
  EXPECT_THAT(line.low, ElementsAre(1, -2));
  EXPECT_THAT(line.high, ElementsAre(4, 6));
  EXPECT_THAT(line.y, ElementsAre(2, 2));  // geometric where both are positive
}

TEST(MeasureTest, LayersComeInTheOrderOfTheNetwork) {
  CellRun cell;
  cell.seeds = {Job(v1::Job::SUCCEEDED)};
  for (const char* name : {"fc10", "head", "fc2", "fc1"}) {
    cell.seeds[0].series[LayerSeries(name, "gradient_norm")] = {{0}, {1}};
    cell.seeds[0].series[LayerSeries(name, "output_gradient_norm")] = {{0}, {1}};
  }
  EXPECT_THAT(LayersWith(cell, "gradient_norm"), ElementsAre("fc1", "fc2", "fc10", "head"));
}

TEST(MeasureTest, DifferencesAndRatiosArePairedBySeed) {
  CellRun a = TwoSeeds();
  CellRun b = TwoSeeds();
  b.seeds[1].job.set_state(v1::Job::FAILED);
  a.seeds[0].job.set_state(v1::Job::DIVERGED);
  const Measure first = [](const SeedRun& seed) {
    return seed.has_result() ? Mean(seed, "s") : kNan;
  };
  const Sample difference = Difference(a, b, first);
  EXPECT_EQ(difference.values[0], 0);
  EXPECT_TRUE(std::isnan(difference.values[1]));
  EXPECT_EQ(difference.diverged, 1);
  EXPECT_THAT(Ratio(TwoSeeds(), TwoSeeds(), first).values,
              ElementsAre(DoubleNear(0, 1e-12), DoubleNear(0, 1e-12)));
}

}  // namespace
}  // namespace normlab::client::studies
