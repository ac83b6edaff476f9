#include "engine/worker/report_builder.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace normlab::engine {
namespace {

using ::testing::ElementsAre;

const std::vector<std::string> kSeries = {"train/loss", "train/accuracy", "test/loss"};

ReportBuilder MakeBuilder(int64_t start_step = 0) {
  return {kSeries,
          {.start_step = start_step, .total_steps = 21, .total_epochs = 3, .steps_per_epoch = 7},
          4};
}

StepEntry Step(int64_t step,
               std::vector<uint32_t> series,
               std::vector<double> values,
               int64_t elapsed_us = 0) {
  return {{step, elapsed_us, 0.5F, 60}, std::move(series), std::move(values)};
}

TEST(ReportBuilderTest, ConsecutiveStepsWithTheSameSeriesShareABlock) {
  ReportBuilder builder = MakeBuilder();
  EXPECT_TRUE(builder.empty());
  builder.AddStep(Step(0, {0, 1}, {2.5, 0.25}, 10));
  builder.AddStep(Step(1, {0, 1}, {2.25, 0.5}, 20));
  builder.AddStep(Step(2, {0, 1, 2}, {2, 0.75, 3}, 30));
  builder.AddStep(Step(3, {0, 2}, {1, 5}, 40));
  builder.AddStep(Step(4, {0, 2}, {0.5, 6}, 50));
  EXPECT_FALSE(builder.empty());
  EXPECT_FALSE(builder.full());
  const v1::WorkerReport report = builder.Take();
  EXPECT_TRUE(builder.empty());

  ASSERT_EQ(report.segments_size(), 3);
  EXPECT_THAT(report.segments(0).metrics().series(), ElementsAre(1, 2));
  EXPECT_THAT(report.segments(0).metrics().steps(), ElementsAre(0, 1));
  EXPECT_THAT(report.segments(0).metrics().values(), ElementsAre(2.5, 0.25, 2.25, 0.5));
  EXPECT_THAT(report.segments(0).metrics().elapsed_us(), ElementsAre(10, 20));
  EXPECT_THAT(report.segments(1).metrics().series(), ElementsAre(1, 2, 3));
  EXPECT_THAT(report.segments(1).metrics().values(), ElementsAre(2, 0.75, 3));
  EXPECT_THAT(report.segments(2).metrics().series(), ElementsAre(1, 3));
  EXPECT_THAT(report.segments(2).metrics().steps(), ElementsAre(3, 4));
  EXPECT_THAT(report.segments(2).metrics().values(), ElementsAre(1, 5, 0.5, 6));
  EXPECT_THAT(report.step_seconds(), ElementsAre(0.5F, 0.5F, 0.5F, 0.5F, 0.5F));
  EXPECT_EQ(report.examples(), 300);
  EXPECT_EQ(report.number(), 0);  // the channel's
}

TEST(ReportBuilderTest, TheSeriesTableGoesOnce) {
  ReportBuilder builder = MakeBuilder();
  builder.AddStep(Step(0, {2}, {1}));
  const v1::WorkerReport first = builder.Take();
  ASSERT_EQ(first.new_series_size(), 3);
  EXPECT_EQ(first.new_series(2).id(), 3U);
  EXPECT_EQ(first.new_series(2).name(), "test/loss");
  builder.AddStep(Step(1, {2}, {1}));
  EXPECT_EQ(builder.Take().new_series_size(), 0);
}

TEST(ReportBuilderTest, ALogLineSplitsBlocksAndKeepsItsPlace) {
  ReportBuilder builder = MakeBuilder();
  builder.AddStep(Step(0, {0}, {1}));
  builder.AddLog(v1::LogLine::WARNING, absl::FromUnixMillis(1'700'000'000'250), "careful");
  builder.AddStep(Step(1, {0}, {1}));
  const v1::WorkerReport report = builder.Take();
  ASSERT_EQ(report.segments_size(), 3);
  const v1::LogLine& line = report.segments(1).log();
  EXPECT_EQ(line.text(), "careful");
  EXPECT_EQ(line.severity(), v1::LogLine::WARNING);
  EXPECT_EQ(line.attempt(), 4);
  EXPECT_EQ(line.time().seconds(), 1'700'000'000);
  EXPECT_EQ(line.time().nanos(), 250'000'000);
}

TEST(ReportBuilderTest, ProgressCountsUpdatesDoneAndKeepsTheLastMetrics) {
  ReportBuilder builder = MakeBuilder(/*start_step=*/5);
  builder.AddLog(v1::LogLine::INFO, absl::UnixEpoch(), "resumed");
  v1::Progress progress = builder.Take().progress();
  EXPECT_EQ(progress.step(), 5);
  EXPECT_EQ(progress.total_steps(), 21);
  EXPECT_EQ(progress.total_epochs(), 3);
  EXPECT_EQ(progress.examples_per_second(), 0);

  builder.AddStep(Step(6, {0, 2}, {1.5, 9}));
  progress = builder.Take().progress();
  EXPECT_EQ(progress.step(), 7);
  EXPECT_EQ(progress.epoch(), 1);  // the next step, 7, is the first of the second epoch

  builder.AddStep(Step(7, {0}, {1.25}));
  progress = builder.Take().progress();
  EXPECT_EQ(progress.latest_metrics().at("train/loss"), 1.25);
  EXPECT_EQ(progress.latest_metrics().at("test/loss"), 9);
  EXPECT_EQ(progress.latest_metrics().size(), 2U);

  // The record after the last update has no update of its own.
  StepEntry last = Step(21, {2}, {3});
  last.info.step_seconds = 0;
  last.info.examples = 0;
  builder.AddStep(last);
  const v1::WorkerReport report = builder.Take();
  EXPECT_EQ(report.progress().step(), 21);
  EXPECT_EQ(report.progress().epoch(), 2);
  EXPECT_EQ(report.step_seconds_size(), 0);
}

TEST(ReportBuilderTest, TheRateIsThatOfTheLastSecond) {
  ReportBuilder builder = MakeBuilder();
  // 60 examples in 100 ms each for 5 s, then in 50 ms each for 2 s.
  int64_t elapsed_us = 0;
  int64_t step = 0;
  for (; step < 50; ++step) {
    builder.AddStep(Step(step, {0}, {1}, elapsed_us += 100'000));
  }
  EXPECT_NEAR(builder.Take().progress().examples_per_second(), 600, 1e-6);
  for (; step < 90; ++step) {
    builder.AddStep(Step(step, {0}, {1}, elapsed_us += 50'000));
  }
  EXPECT_NEAR(builder.Take().progress().examples_per_second(), 1200, 1e-6);
  // Steps longer than the window.
  builder.AddStep(Step(step, {0}, {1}, elapsed_us += 3'000'000));
  builder.AddStep(Step(step + 1, {0}, {1}, elapsed_us += 3'000'000));
  EXPECT_NEAR(builder.Take().progress().examples_per_second(), 20, 1e-6);
}

TEST(ReportBuilderTest, IsFullByBytesByACheckpointAndByAnOutcome) {
  ReportBuilder builder = MakeBuilder();
  int64_t steps = 0;
  while (!builder.full()) {
    builder.AddStep(Step(steps++, {0, 1, 2}, {1, 2, 3}));
  }
  const v1::WorkerReport report = builder.Take();
  EXPECT_LT(report.ByteSizeLong(), size_t{512} << 10);
  EXPECT_GT(steps, 1000);
  EXPECT_EQ(report.segments(0).metrics().steps_size(), steps);
  EXPECT_FALSE(builder.full());

  v1::CheckpointAnnouncement checkpoint;
  checkpoint.set_step(3);
  builder.AddCheckpoint(checkpoint);
  EXPECT_TRUE(builder.full());
  EXPECT_EQ(builder.Take().checkpoint().step(), 3);

  v1::Outcome outcome;
  outcome.set_state(v1::Job::DIVERGED);
  outcome.mutable_result()->set_steps(12);
  builder.SetOutcome(outcome);
  EXPECT_TRUE(builder.full());
  const v1::WorkerReport last = builder.Take();
  EXPECT_EQ(last.outcome().state(), v1::Job::DIVERGED);
  EXPECT_EQ(last.progress().step(), 12);
}

TEST(ReportBuilderTest, NothingThatIsNotUtf8GetsIntoAMessage) {
  EXPECT_EQ(ToUtf8("plain"), "plain");
  EXPECT_EQ(ToUtf8("n\xC3\xB8rm \xE2\x82\xAC \xF0\x9F\x98\x80"),
            "n\xC3\xB8rm \xE2\x82\xAC \xF0\x9F\x98\x80");
  EXPECT_EQ(ToUtf8("a\xFFz"), "a?z");
  EXPECT_EQ(ToUtf8("\xC3"), "?");                 // cut off
  EXPECT_EQ(ToUtf8("\xC0\x80"), "??");            // overlong
  EXPECT_EQ(ToUtf8("\xED\xA0\x80"), "???");       // surrogate
  EXPECT_EQ(ToUtf8("\xF4\x90\x80\x80"), "????");  // beyond Unicode
  EXPECT_EQ(ToUtf8("ab\xE2\x82\xAC", 4), "ab");   // never half a character

  ReportBuilder builder = MakeBuilder();
  v1::Outcome outcome;
  outcome.mutable_failure()->set_message("no such file: \xFF\xFE");
  builder.AddLog(v1::LogLine::ERROR, absl::UnixEpoch(), "\x80");
  builder.SetOutcome(outcome);
  v1::WorkerReport copy;
  EXPECT_TRUE(copy.ParseFromString(builder.Take().SerializeAsString()));
}

}  // namespace
}  // namespace normlab::engine
