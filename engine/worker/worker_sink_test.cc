#include "engine/worker/worker_sink.h"

#include <array>

#include "gtest/gtest.h"

#include "engine/worker/report_builder.h"

namespace normlab::engine {
namespace {

TEST(CheckpointFolderForServerTest, IsRelativeToTheWorkFolder) {
  const std::string expected = "jobs/abc/attempt-2/checkpoints/step-000000010";
  EXPECT_EQ(CheckpointFolderForServer("/var/work/jobs/abc/attempt-2",
                                      "/var/work/jobs/abc/attempt-2/checkpoints/step-000000010"),
            expected);
  EXPECT_EQ(
      CheckpointFolderForServer("/var/work/jobs/abc/attempt-2/", "checkpoints/step-000000010"),
      expected);
  EXPECT_EQ(CheckpointFolderForServer("/var//work/./jobs/abc/attempt-2",
                                      "/var/work/jobs/abc/attempt-2/checkpoints/step-000000010"),
            expected);
}

TEST(WorkerSinkTest, PassesEverythingOnInOrder) {
  Outbox outbox(1024);
  ReportChannelOptions options;
  options.target = "unix:/nonexistent/worker.sock";
  const ReportChannel channel(std::move(options));
  WorkerSink sink(outbox, channel, "/work/jobs/x/attempt-1");
  EXPECT_EQ(sink.CommittedCheckpointStep(), -1);

  const std::array<SeriesValue, 2> values = {{{0, 2.5}, {2, 0.125}}};
  sink.OnStep(
      {.step = 4, .values = values, .elapsed_us = 1234, .step_seconds = 0.25F, .examples = 61});
  sink.OnLog(v1::LogLine::WARNING, "watch out");
  sink.OnCheckpoint(
      {.step = 5,
       .folder = "/work/jobs/x/attempt-1/checkpoints/step-000000005",
       .manifest_sha256 = "abc",
       .bytes = 99,
       .seconds = 0.5,
       .files = {{"model.safetensors", 90, "aa"}, {"optimizer.safetensors", 9, "bb"}}});

  ReportBuilder builder({"a", "b", "c"},
                        {.total_steps = 9, .total_epochs = 1, .steps_per_epoch = 9}, 1);
  EXPECT_FALSE(outbox.DrainInto(builder));
  const v1::WorkerReport report = builder.Take();
  ASSERT_EQ(report.segments_size(), 2);
  const v1::MetricBlock& block = report.segments(0).metrics();
  EXPECT_EQ(block.steps(0), 4);
  EXPECT_EQ(block.elapsed_us(0), 1234);
  ASSERT_EQ(block.values_size(), 2);
  EXPECT_EQ(block.values(1), 0.125);
  EXPECT_EQ(block.series(1), 3U);
  EXPECT_EQ(report.step_seconds(0), 0.25F);
  EXPECT_EQ(report.examples(), 61);
  EXPECT_EQ(report.segments(1).log().text(), "watch out");
  EXPECT_EQ(report.checkpoint().step(), 5);
  EXPECT_EQ(report.checkpoint().folder(), "jobs/x/attempt-1/checkpoints/step-000000005");
  EXPECT_EQ(report.checkpoint().manifest_sha256(), "abc");
  EXPECT_EQ(report.checkpoint().bytes(), 99);
  EXPECT_EQ(report.checkpoint().seconds(), 0.5);
  ASSERT_EQ(report.checkpoint().files_size(), 2);
  const v1::ArtifactFile& model = report.checkpoint().files(0);
  EXPECT_EQ(model.path(), "jobs/x/attempt-1/checkpoints/step-000000005/model.safetensors");
  EXPECT_EQ(model.file_name(), "checkpoint-5.safetensors");
  EXPECT_EQ(model.bytes(), 90);
  EXPECT_EQ(model.sha256(), "aa");
  EXPECT_EQ(report.checkpoint().files(1).file_name(), "checkpoint-5-optimizer.safetensors");
  EXPECT_FALSE(sink.dropped());
}

// A process that is about to end takes no more steps; a run of which steps are missing has no
// outcome.
TEST(WorkerSinkTest, RemembersThatAStepWasDropped) {
  Outbox outbox(1024);
  ReportChannelOptions options;
  options.target = "unix:/nonexistent/worker.sock";
  const ReportChannel channel(std::move(options));
  WorkerSink sink(outbox, channel, "/work/jobs/x/attempt-1");
  const std::array<SeriesValue, 1> values = {{{0, 2.5}}};
  sink.OnStep({.step = 0, .values = values});
  EXPECT_FALSE(sink.dropped());
  sink.OnCheckpoint({.step = 1, .folder = "checkpoints/step-1", .manifest_sha256 = "a"});
  outbox.Close();
  sink.OnStep({.step = 1, .values = values});
  EXPECT_TRUE(sink.dropped());
  // Nor may there be a checkpoint that an attempt could go on from without that step.
  sink.OnCheckpoint({.step = 2, .folder = "checkpoints/step-2", .manifest_sha256 = "b"});
  ReportBuilder builder({"a"}, {.total_steps = 9, .total_epochs = 1, .steps_per_epoch = 9}, 1);
  outbox.DrainInto(builder);
  EXPECT_EQ(builder.Take().checkpoint().step(), 1);
  EXPECT_FALSE(outbox.DrainInto(builder));
  EXPECT_TRUE(builder.empty());
}

}  // namespace
}  // namespace normlab::engine
