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

TEST(MeasureTest, DivergedJobsCountAsTheWorstAndUnfinishedOnesNot) {
  SeedRun succeeded = Job(v1::Job::SUCCEEDED);
  succeeded.series["test/accuracy"] = {{0, 60}, {0.1, 0.8}};
  succeeded.series["s"] = {{0, 50, 100}, {1, 2, 3}};
  const auto median = [](const SeedRun& seed) { return Median(seed, "s"); };
  const std::vector<Measure> measures = {FinalAccuracy("test/accuracy"),
                                         RecentMean("test/accuracy", 2, 0.1),
                                         FinalLoss("test/accuracy"),
                                         {median, kInfinity}};
  const std::vector<double> values = {0.8, 0.45, 0.8, 2};
  const std::vector<double> worst = {0.1, 0.1, kInfinity, kInfinity};
  for (size_t i = 0; i < measures.size(); ++i) {
    EXPECT_NEAR(ValueOf(succeeded, measures[i]), values[i], 1e-15) << i;
    // All of these have the partial series of what they did before.
    SeedRun diverged = succeeded;
    diverged.job.set_state(v1::Job::DIVERGED);
    EXPECT_EQ(ValueOf(diverged, measures[i]), worst[i]) << i;
    for (const auto state :
         {v1::Job::RUNNING, v1::Job::FAILED, v1::Job::CANCELLED, v1::Job::PAUSED}) {
      SeedRun other = succeeded;
      other.job.set_state(state);
      EXPECT_TRUE(std::isnan(ValueOf(other, measures[i]))) << i;
    }
  }
}

TEST(MeasureTest, LogarithmsOfOverflowsAreLarge) {
  SeedRun seed = Job(v1::Job::SUCCEEDED);
  seed.series["s"] = {{0, 50, 100, 150}, {10, 1000, kInfinity, kNan}};
  EXPECT_NEAR(MeanLog10(seed, "s"), (1 + 3 + 9) / 3.0, 1e-12);
  EXPECT_NEAR(MeanLog10(seed, "s", 50), (3 + 9) / 2.0, 1e-12);
  EXPECT_EQ(Median(seed, "s"), 1000);
  seed.series["even"] = {{0, 50, 100, 150}, {4, 1, 3, 2}};
  EXPECT_EQ(Median(seed, "even"), 2.5) << "not the upper one of the middle";
  seed.series["over"] = {{0, 50}, {kInfinity, kInfinity}};
  EXPECT_EQ(MeanLog10(seed, "over"), kInfinity);
  EXPECT_TRUE(std::isnan(MeanLog10(seed, "t")));
  EXPECT_NEAR(LogRatio(100, 1), 2, 1e-15);
  EXPECT_EQ(LogRatio(kInfinity, 1), kLargestLogRatio);
  EXPECT_EQ(LogRatio(1, kInfinity), -kLargestLogRatio);
  EXPECT_EQ(LogRatio(1e-30, 1), -kLargestLogRatio);
  EXPECT_EQ(LogRatio(0, 0), 0);
  EXPECT_EQ(LogRatio(kInfinity, kInfinity), 0) << "both diverged: a tie";
  EXPECT_TRUE(std::isnan(LogRatio(kNan, kInfinity)));
  EXPECT_EQ(LogMinus(7, 0.5), kLargestLogRatio);
  EXPECT_EQ(LogMinus(kInfinity, kInfinity), 0);
  EXPECT_EQ(LogMinus(1, kInfinity), -kLargestLogRatio);
  EXPECT_TRUE(std::isnan(LogMinus(kNan, 1)));
  EXPECT_EQ(Minus(9, 1), 8);
  EXPECT_EQ(Minus(kInfinity, 1), kLargestLogRatio);
}

TEST(MeasureTest, ThePlateauIsLeftWhenTheMeanOfTwentyStepsIsLow) {
  SeedRun seed = Job(v1::Job::SUCCEEDED);
  for (int step = 0; step < 100; ++step) {
    seed.series["train/loss"].steps.push_back(step);
    seed.series["train/loss"].values.push_back(step == 50 ? 0.1 : 2.3);
  }
  EXPECT_FALSE(PlateauEnd(seed, 2.0).has_value());  // one lucky batch
  for (int step = 60; step < 80; ++step) {
    seed.series["train/loss"].values[static_cast<size_t>(step)] = 1.9;
  }
  // Each of steps 60 to 79 takes 0.4 away from the sum of twenty, the lucky one 2.2 until it is out of sight: 0.3 * 20 = 6.
  EXPECT_EQ(PlateauEnd(seed, 2.0), 69);
  EXPECT_FALSE(PlateauEnd(Job(v1::Job::SUCCEEDED), 2.0).has_value());
  CellRun a;
  CellRun b;
  a.seeds = {seed};
  b.seeds = {seed};
  for (double& value : b.seeds[0].series["train/loss"].values) {
    value = 1;
  }
  const Starts starts = BothLeftPlateau(a, b, 2.0);
  EXPECT_EQ(StartOf(starts, a.seeds[0]), 69) << "the later of the two";
  a.seeds[0].series.clear();  // diverged at once: the other's
  EXPECT_EQ(StartOf(BothLeftPlateau(a, b, 2.0), b.seeds[0]), 19);
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

TEST(MeasureTest, ADivergedSeedHasALineOfItsOwn) {
  CellRun cell = TwoSeeds();
  cell.seeds.push_back(Job(v1::Job::DIVERGED));
  cell.seeds.back().seed = 7;
  cell.seeds.back().series["s"] = {{0, 1}, {9, 90}};
  report::LineChart chart;
  AddCurves(cell, "s", "net", chart, "facet");
  ASSERT_EQ(chart.lines.size(), 2U);
  EXPECT_THAT(chart.lines[0].x, ElementsAre(0, 1, 2)) << "not cut where it diverged";
  EXPECT_THAT(chart.lines[0].y, ElementsAre(2, 3, 4));
  EXPECT_EQ(chart.lines[1].name, "net, seed 7 (diverged)");
  EXPECT_THAT(chart.lines[1].y, ElementsAre(9, 90));
  EXPECT_THAT(chart.facets, ElementsAre("facet", "facet"));
  AddStarts({{1, 1}, {2, 2}}, chart);
  ASSERT_EQ(chart.lines.size(), 3U);
  EXPECT_TRUE(chart.lines[2].reference);
  EXPECT_THAT(chart.lines[2].x, ElementsAre(2, 2));
  EXPECT_THAT(chart.lines[2].y, ElementsAre(1, 90));
}

TEST(MeasureTest, TablesSayNoneAndInfinityButNeverNan) {
  const auto cells = [](std::vector<double> values, bool logarithms) {
    return SummaryCells({.values = std::move(values)}, logarithms);
  };
  EXPECT_EQ(std::get<double>(cells({kInfinity, 1}, true)[0]), kInfinity);
  EXPECT_EQ(std::get<std::string>(cells({kInfinity, 1}, true)[1]), "none");
  EXPECT_EQ(std::get<std::string>(cells({1}, false)[1]), "none");
  // Geometric: 10^2 with the interval of the logarithms, which is never below 0.
  const auto geometric = cells({1.9, 2.1}, true);
  EXPECT_NEAR(std::get<double>(geometric[0]), 100, 1e-9);
  EXPECT_EQ(std::get<std::string>(geometric[1]).find('-'), std::string::npos);
  // Equal counts are as sure as their rounding.
  const auto counts = SummaryCells({.values = {16, 16, 16}, .grid_step = std::sqrt(0.5)});
  EXPECT_NE(std::get<std::string>(counts[1]), "16 to 16");
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
  const Measure first = {[](const SeedRun& seed) { return Mean(seed, "s"); }, 100};
  const Sample difference = Difference(a, b, first);
  EXPECT_EQ(difference.values[0], 97.5);
  EXPECT_TRUE(std::isnan(difference.values[1]));
  EXPECT_EQ(difference.diverged(), 1);
  EXPECT_EQ(difference.jobs.size(), 4U);
  EXPECT_THAT(Ratio(TwoSeeds(), TwoSeeds(), first).values,
              ElementsAre(DoubleNear(0, 1e-12), DoubleNear(0, 1e-12)));
}

}  // namespace
}  // namespace normlab::client::studies
