#include "engine/worker/reporter.h"

#include <atomic>
#include <filesystem>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"

#include "common/ids.h"
#include "engine/worker/fake_server.h"

namespace normlab::engine {
namespace {

constexpr absl::Duration kDeadline =
    absl::Seconds(30);  // of conditions that hold within milliseconds
const std::vector<std::string> kSeries = {"train/loss", "test/loss"};

v1::CheckpointAnnouncement CheckpointAt(int64_t step) {
  v1::CheckpointAnnouncement checkpoint;
  checkpoint.set_step(step);
  return checkpoint;
}

v1::Outcome Succeeded(int64_t steps) {
  v1::Outcome outcome;
  outcome.set_state(v1::Job::SUCCEEDED);
  outcome.mutable_result()->set_steps(steps);
  return outcome;
}

bool SayStep(Outbox& outbox, int64_t step, uint32_t examples = 60) {
  return outbox.Step({step, 10 * step, 0.5F, examples}, 1, [step](size_t) {
    return std::pair<uint32_t, double>(0, static_cast<double>(step) / 8);
  });
}

ReportBuilder MakeBuilder(int64_t total_steps) {
  return {
      kSeries, {.total_steps = total_steps, .total_epochs = 1, .steps_per_epoch = total_steps}, 1};
}

TEST(OutboxTest, EventsKeepTheirPlaceBetweenSteps) {
  Outbox outbox(1024);
  ReportBuilder builder = MakeBuilder(10);
  outbox.Log(v1::LogLine::INFO, "before");
  SayStep(outbox, 0);
  SayStep(outbox, 1);
  outbox.Checkpoint(CheckpointAt(2));
  SayStep(outbox, 2);
  outbox.Log(v1::LogLine::WARNING, "between");
  SayStep(outbox, 3);
  outbox.Finish(Succeeded(4));

  EXPECT_TRUE(outbox.urgent());
  EXPECT_TRUE(outbox.DrainInto(builder));  // a checkpoint ends a report
  const v1::WorkerReport first = builder.Take();
  ASSERT_EQ(first.segments_size(), 2);
  EXPECT_EQ(first.segments(0).log().text(), "before");
  EXPECT_EQ(first.segments(1).metrics().steps_size(), 2);
  EXPECT_EQ(first.checkpoint().step(), 2);
  EXPECT_FALSE(first.has_outcome());

  EXPECT_FALSE(outbox.DrainInto(builder));
  const v1::WorkerReport second = builder.Take();
  ASSERT_EQ(second.segments_size(), 3);
  EXPECT_EQ(second.segments(0).metrics().steps(0), 2);
  EXPECT_EQ(second.segments(1).log().text(), "between");
  EXPECT_EQ(second.segments(2).metrics().steps(0), 3);
  EXPECT_TRUE(second.has_outcome());
  EXPECT_FALSE(outbox.urgent());
}

TEST(OutboxTest, EventsStayInPlaceWhileAnotherThreadAddsThem) {
  constexpr int64_t kSteps = 50'000;
  constexpr int64_t kEvery = 13;
  Outbox outbox(256);
  std::thread producer([&] {
    for (int64_t step = 0; step < kSteps; ++step) {
      if (step % kEvery == 0) {
        outbox.Checkpoint(CheckpointAt(step));
      }
      SayStep(outbox, step);
    }
    outbox.Finish(Succeeded(kSteps));
  });
  ReportBuilder builder = MakeBuilder(kSteps);
  int64_t steps = 0;
  for (bool finished = false; !finished;) {
    outbox.DrainInto(builder);
    if (builder.empty()) {
      std::this_thread::yield();
      continue;
    }
    const v1::WorkerReport report = builder.Take();
    for (const v1::Segment& segment : report.segments()) {
      for (const int64_t step : segment.metrics().steps()) {
        ASSERT_EQ(step, steps++);
      }
    }
    if (report.has_checkpoint()) {
      ASSERT_EQ(report.checkpoint().step(),
                steps);  // exactly the points of earlier steps are there
    }
    finished = report.has_outcome();
  }
  producer.join();
  EXPECT_EQ(steps, kSteps);
}

class ReporterTest : public ::testing::Test {
 protected:
  ReporterTest()
      : folder_(absl::StrCat(::testing::TempDir(), "/", common::NewId(absl::Now()))),
        server_(absl::StrCat(folder_, "/worker.sock")) {
    std::filesystem::create_directories(folder_);
  }
  ~ReporterTest() override {
    server_.Stop();
    std::filesystem::remove_all(folder_);
  }

  ReportChannelOptions ChannelOptions() {
    ReportChannelOptions options;
    options.target = server_.target();
    options.first_backoff = absl::Milliseconds(5);
    options.max_backoff = absl::Milliseconds(20);
    return options;
  }

  void ExpectSteps(int64_t steps) {
    const std::vector<UnpackedPoint> points = Unpack(server_.seen().reports);
    ASSERT_EQ(static_cast<int64_t>(points.size()), steps);
    for (int64_t step = 0; step < steps; ++step) {
      ASSERT_EQ(points[static_cast<size_t>(step)],
                (UnpackedPoint{"train/loss", step, static_cast<double>(step) / 8}));
    }
  }

  const std::string folder_;
  FakeServer server_;
};

TEST_F(ReporterTest, DeliversARunOverBrokenConnections) {
  constexpr int64_t kSteps = 30'000;
  std::atomic<int> calls = 0;
  server_.SetScript([&calls](const v1::WorkerReport&) {
    return ++calls % 5 == 2 ? Reaction::kStoreAndDrop : Reaction::kAcknowledge;
  });
  server_.Start();
  Outbox outbox(4096);
  ReportChannel channel(ChannelOptions());
  Reporter reporter(outbox, MakeBuilder(kSteps), channel, {.interval = absl::Milliseconds(1)});
  for (int64_t step = 0; step < kSteps; ++step) {
    if (step % 10'000 == 0) {
      outbox.Checkpoint(CheckpointAt(step));
    }
    ASSERT_TRUE(SayStep(outbox, step));
  }
  outbox.Finish(Succeeded(kSteps));
  ASSERT_TRUE(reporter.WaitUntilDelivered(kDeadline));
  ExpectSteps(kSteps);
  const FakeServer::Seen seen = server_.seen();
  EXPECT_EQ(seen.gaps, 0);
  EXPECT_EQ(seen.reports.back().outcome().state(), v1::Job::SUCCEEDED);
  int64_t examples = 0;
  for (const v1::WorkerReport& report : seen.reports) {
    examples += report.examples();
    EXPECT_EQ(report.progress().total_steps(), kSteps);
  }
  EXPECT_EQ(examples, 60 * kSteps);
}

TEST_F(ReporterTest, StepsThatNobodyWaitsForTravelTogether) {
  server_.Start();
  Outbox outbox(4096);
  ReportChannel channel(ChannelOptions());
  std::atomic<int> ticks = 0;
  Reporter reporter(outbox, MakeBuilder(100), channel,
                    {.interval = absl::Milliseconds(1),
                     .unwatched_interval = absl::Hours(1),
                     .on_tick = [&ticks] { ++ticks; }});
  const auto wait_for_ticks = [&ticks](int more) {
    for (const int until = ticks + more; ticks < until;) {
      std::this_thread::yield();
    }
  };
  const auto wait_for_reports = [this](size_t count) {
    return server_.WaitFor([count](const auto& seen) { return seen.reports.size() == count; });
  };
  SayStep(outbox, 0);
  ASSERT_TRUE(wait_for_reports(1)) << "the first goes at once: the run has begun";
  SayStep(outbox, 1);
  wait_for_ticks(20);
  SayStep(outbox, 2);
  wait_for_ticks(20);
  EXPECT_EQ(server_.seen().reports.size(), 1u);

  outbox.SetWatched(true);
  ASSERT_TRUE(wait_for_reports(2)) << "somebody came";
  SayStep(outbox, 3);
  ASSERT_TRUE(wait_for_reports(3));

  outbox.SetWatched(false);
  SayStep(outbox, 4);
  wait_for_ticks(20);
  EXPECT_EQ(server_.seen().reports.size(), 3u);
  outbox.Log(v1::LogLine::WARNING, "what happens goes at once");
  ASSERT_TRUE(wait_for_reports(4));
  ExpectSteps(5);
}

TEST_F(ReporterTest, TheTrainingWaitsWhenTheBacklogIsFullAndNothingIsLost) {
  constexpr int64_t kSteps = 100'000;
  ReporterOptions options;
  options.interval = absl::Milliseconds(1);
  options.max_backlog_bytes = 64 << 10;
  Outbox outbox(4096);
  // No server yet, so nothing is acknowledged.
  ReportChannel channel(ChannelOptions());
  Reporter reporter(outbox, MakeBuilder(kSteps), channel, options);
  std::atomic<int64_t> said = 0;
  std::thread training([&] {
    for (int64_t step = 0; step < kSteps; ++step) {
      ASSERT_TRUE(SayStep(outbox, step));
      said = step + 1;
    }
    outbox.Finish(Succeeded(kSteps));
  });
  while (channel.backlog().bytes < options.max_backlog_bytes) {
    std::this_thread::yield();
  }
  EXPECT_FALSE(reporter.WaitUntilDelivered(absl::Milliseconds(200)));
  // One report beyond the limit at most, and the ring: far from everything.
  EXPECT_LT(said, kSteps / 2);
  EXPECT_LT(channel.backlog().bytes, options.max_backlog_bytes + (1 << 20));
  server_.Start();
  ASSERT_TRUE(reporter.WaitUntilDelivered(kDeadline));
  training.join();
  ExpectSteps(kSteps);
}

TEST_F(ReporterTest, AnAbsentServerGetsFewLargeReports) {
  constexpr int64_t kSteps = 2000;
  ReporterOptions options;
  options.interval = absl::ZeroDuration();  // as many reports as it may make
  Outbox outbox(1 << 16);
  ReportChannel channel(ChannelOptions());
  Reporter reporter(outbox, MakeBuilder(kSteps), channel, options);
  for (int64_t step = 0; step < kSteps; ++step) {
    ASSERT_TRUE(SayStep(outbox, step));
  }
  outbox.Finish(Succeeded(kSteps));
  EXPECT_FALSE(reporter.WaitUntilDelivered(absl::Milliseconds(50)));
  EXPECT_LE(channel.backlog().reports, options.max_small_reports + 1);
  server_.Start();
  ASSERT_TRUE(reporter.WaitUntilDelivered(kDeadline));
  ExpectSteps(kSteps);
}

TEST_F(ReporterTest, EndsAtOnceWithoutDelivering) {
  Outbox outbox(1024);
  ReportChannel channel(ChannelOptions());
  Reporter reporter(outbox, MakeBuilder(1), channel, {.interval = absl::Hours(1)});
  SayStep(outbox, 0);
  outbox.Close();
  EXPECT_FALSE(SayStep(outbox, 1));
}

}  // namespace
}  // namespace normlab::engine
