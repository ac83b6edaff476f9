#include <future>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "client/lib/client.h"
#include "client/lib/number_format.h"
#include "client/lib/testing/fake_jobs_service.h"
#include "client/lib/testing/fast_options.h"

namespace normlab::client {
namespace {

using normlab::v1::Job;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

Job NamedJob(const std::string& name, Job::State state) {
  Job job;
  job.set_name(name);
  job.set_state(state);
  return job;
}

// QUEUED, RUNNING, `steps` training points with an evaluation after every 5th and a log line after
// every 4th, then the terminal state.
std::vector<FakeRecord> History(int steps, Job::State end) {
  std::vector<FakeRecord> records = {FakeState(Job::QUEUED), FakeState(Job::RUNNING)};
  for (int step = 0; step < steps; ++step) {
    records.emplace_back(
        FakePoints{.step = step,
                   .elapsed_us = 1000 * (step + 1),
                   .values = {{"train/loss", 1.0 / (step + 3)}, {"train/accuracy", step / 100.0}}});
    if (step % 5 == 4) {
      records.emplace_back(
          FakePoints{.step = step + 1, .values = {{"test/loss", 2.0 / (step + 3)}}});
    }
    if (step % 4 == 3) {
      records.push_back(FakeLog(absl::StrCat("line ", step)));
    }
  }
  if (end != Job::STATE_UNSPECIFIED) {
    records.push_back(FakeState(end));
  }
  return records;
}

// Everything that a watch hands on, as text.
class Recorder : public WatchHandler {
 public:
  absl::Status OnMetrics(const MetricRecord& record) override {
    std::string line = absl::StrCat(record.sequence, " step ", record.step);
    for (size_t i = 0; i < record.series.size(); ++i) {
      absl::StrAppend(&line, " ", *record.series[i], "=", FormatDouble(record.values[i]));
    }
    return Add(std::move(line));
  }
  absl::Status OnState(int64_t sequence, const normlab::v1::StateChange& change) override {
    return Add(absl::StrCat(sequence, " state ", Job::State_Name(change.state())));
  }
  absl::Status OnLog(int64_t sequence, const normlab::v1::LogLine& line) override {
    return Add(absl::StrCat(sequence, " log ", line.text()));
  }
  absl::Status OnHeartbeat(const normlab::v1::Heartbeat& /*heartbeat*/) override {
    ++heartbeats;
    return absl::OkStatus();
  }
  void OnReconnect(const absl::Status& /*reason*/,
                   absl::Duration /*delay*/,
                   int /*attempt*/) override {
    ++reconnects;
  }
  void OnReconnected() override { ++reconnected; }

  std::vector<std::string> lines;
  int heartbeats = 0;
  int reconnects = 0;
  int reconnected = 0;
  size_t stop_after = SIZE_MAX;
  std::stop_source stop;

 private:
  absl::Status Add(std::string line) {
    lines.push_back(std::move(line));
    if (lines.size() == stop_after) {
      stop.request_stop();
    }
    return absl::OkStatus();
  }
};

class CountingExperimentHandler final : public ExperimentHandler {
 public:
  absl::Status OnExperiment(const normlab::v1::Experiment& /*experiment*/) override {
    return absl::OkStatus();
  }
  void OnReconnect(const absl::Status& /*reason*/, int /*attempt*/) override { ++lost; }
  void OnReconnected() override {
    ++found;
    EXPECT_GE(lost, found) << "what was never lost";
  }
  int lost = 0;
  int found = 0;
};

// A server of an older version sends no heartbeats: a quiet stream is asked anew, which is no loss.
TEST(WatchExperimentTest, AQuietStreamIsNoLoss) {
  FakeServer server;
  normlab::v1::Experiment experiment;
  experiment.set_name("experiments/a");
  experiment.mutable_counts()->set_queued(1);
  server.experiments().Put({experiment});
  server.experiments().HoldWatches();
  std::stop_source stop;
  ClientOptions options = FastOptions(server.address());
  options.idle_timeout = absl::Milliseconds(30);
  options.stop = stop.get_token();
  Client client(options);
  CountingExperimentHandler handler;
  std::thread stopper([&] {
    while (server.experiments().watches() < 4) {
      absl::SleepFor(absl::Milliseconds(1));
    }
    stop.request_stop();
  });
  (void)client.WatchExperiment("a", handler);
  stopper.join();
  EXPECT_EQ(handler.lost, 0);
  EXPECT_EQ(handler.found, 0);
}

TEST(WatchTest, DeliversEveryRecordOnceAcrossDrops) {
  const std::vector<FakeRecord> history = History(23, Job::SUCCEEDED);
  FakeServer server;
  server.AddJob(NamedJob("jobs/a", Job::SUCCEEDED), history);
  Client client(FastOptions(server.address()));
  Recorder whole;
  const WatchResult undisturbed = client.WatchJob("a", 0, whole);
  ASSERT_TRUE(undisturbed.status.ok()) << undisturbed.status;
  EXPECT_EQ(undisturbed.last_sequence, static_cast<int64_t>(history.size()));
  EXPECT_EQ(undisturbed.state, Job::SUCCEEDED);
  ASSERT_THAT(whole.lines, SizeIs(history.size()));
  EXPECT_EQ(whole.lines[0], "1 state QUEUED");
  EXPECT_EQ(whole.lines[2], "3 step 0 train/loss=0.3333333333333333 train/accuracy=0");
  EXPECT_EQ(whole.reconnects, 0);
  EXPECT_EQ(whole.reconnected, 0);
  EXPECT_GE(whole.heartbeats, 1);

  server.DropStreams({0, 1, 4, 0, 7, 3});  // ends inside blocks, before and after anything
  Recorder broken;
  const WatchResult result = client.WatchJob("jobs/a", 0, broken);
  ASSERT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(broken.lines, whole.lines);
  EXPECT_EQ(broken.reconnects, 6);
  EXPECT_THAT(server.watch_positions(), ElementsAre(0, 0, 0, 1, 5, 5, 12, 15));
}

TEST(WatchTest, GoesOnWithARestartedServer) {
  const std::vector<FakeRecord> history = History(23, Job::SUCCEEDED);
  // Ends the server in the middle of the stream, and starts another at its port when the client
  // has noticed.
  class Restarter : public Recorder {
   public:
    explicit Restarter(const std::vector<FakeRecord>& history)
        : history_(history), server_(std::make_unique<FakeServer>()) {
      server_->AddJob(NamedJob("jobs/a", Job::RUNNING), {history.begin(), history.begin() + 9});
    }
    absl::Status OnBatchEnd() override {
      if (lines.size() == 9 && server_ != nullptr) {
        port_ = server_->port();
        server_.reset();
      }
      return absl::OkStatus();
    }
    void OnReconnect(const absl::Status& reason, absl::Duration delay, int attempt) override {
      EXPECT_EQ(attempt, reconnects + 1);
      Recorder::OnReconnect(reason, delay, attempt);
      if (server_ == nullptr) {
        server_ = std::make_unique<FakeServer>(port_);
        server_->AddJob(NamedJob("jobs/a", Job::SUCCEEDED), history_);
      }
    }
    std::string address() const { return server_->address(); }

   private:
    const std::vector<FakeRecord>& history_;
    std::unique_ptr<FakeServer> server_;
    int port_ = 0;
  };
  Restarter restarted(history);
  Client client(FastOptions(restarted.address()));
  const absl::Time start = absl::Now();
  const WatchResult result = client.WatchJob("a", 0, restarted);
  ASSERT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(result.state, Job::SUCCEEDED);
  // gRPC's own waits between connections would have grown beyond this.
  EXPECT_LT(absl::Now() - start, absl::Seconds(15));
  FakeServer server;
  server.AddJob(NamedJob("jobs/a", Job::SUCCEEDED), history);
  Client other(FastOptions(server.address()));
  Recorder whole;
  ASSERT_TRUE(other.WatchJob("a", 0, whole).status.ok());
  EXPECT_EQ(restarted.lines, whole.lines);
}

TEST(WatchTest, ResumesInsideABlockAfterAnySequence) {
  const std::vector<FakeRecord> history = History(7, Job::DIVERGED);
  FakeServer server;
  server.AddJob(NamedJob("jobs/a", Job::DIVERGED), history);
  Client client(FastOptions(server.address()));
  Recorder whole;
  ASSERT_TRUE(client.WatchJob("a", 0, whole).status.ok());
  for (size_t after = 1; after <= history.size(); ++after) {
    Recorder rest;
    const WatchResult result = client.WatchJob("a", static_cast<int64_t>(after), rest);
    ASSERT_TRUE(result.status.ok()) << result.status;
    EXPECT_EQ(result.state, Job::DIVERGED);
    EXPECT_EQ(rest.lines,
              std::vector<std::string>(whole.lines.begin() + static_cast<ptrdiff_t>(after),
                                       whole.lines.end()));
  }
  Recorder none;
  EXPECT_TRUE(absl::IsOutOfRange(client.WatchJob("a", 99, none).status));
}

TEST(WatchTest, FollowsALiveJobAndStopsOnRequest) {
  FakeServer server;
  server.AddJob(NamedJob("jobs/a", Job::RUNNING), History(3, Job::STATE_UNSPECIFIED));
  Recorder recorder;
  recorder.stop_after = 6;  // five are there already
  ClientOptions options = FastOptions(server.address());
  options.stop = recorder.stop.get_token();
  Client client(options);
  auto result = std::async(std::launch::async, [&] { return client.WatchJob("a", 0, recorder); });
  server.AppendRecord("jobs/a", FakeLog("live"));
  const WatchResult stopped = result.get();
  EXPECT_TRUE(absl::IsCancelled(stopped.status)) << stopped.status;
  EXPECT_EQ(stopped.last_sequence, 6);
  EXPECT_EQ(stopped.state, Job::STATE_UNSPECIFIED);
  EXPECT_EQ(recorder.lines.back(), "6 log live");

  // A stop while nothing comes ends the waiting read.
  std::stop_source stop;
  options.stop = stop.get_token();
  Client waiting(options);
  Recorder rest;
  auto second = std::async(std::launch::async, [&] { return waiting.WatchJob("a", 6, rest); });
  stop.request_stop();
  EXPECT_TRUE(absl::IsCancelled(second.get().status));
}

TEST(WatchTest, DetectsGapsAndRepetitions) {
  for (const bool repeat : {false, true}) {
    FakeServer server;
    server.AddJob(NamedJob("jobs/a", Job::SUCCEEDED), History(23, Job::SUCCEEDED));
    server.BreakSequence(15, repeat);
    Client client(FastOptions(server.address()));
    Recorder recorder;
    const WatchResult result = client.WatchJob("a", 0, recorder);
    EXPECT_TRUE(absl::IsInternal(result.status)) << result.status;
    EXPECT_THAT(std::string(result.status.message()), HasSubstr("was expected and"));
    EXPECT_LT(result.last_sequence, 15);
    EXPECT_THAT(recorder.lines, SizeIs(result.last_sequence));
  }
}

TEST(WatchTest, LeavesAFrozenStream) {
  FakeServer server;
  server.AddJob(NamedJob("jobs/a", Job::FAILED), History(3, Job::FAILED));
  server.FreezeNextStream();
  ClientOptions options = FastOptions(server.address());
  options.idle_timeout = absl::Milliseconds(300);
  Client client(options);
  Recorder recorder;
  const WatchResult result = client.WatchJob("a", 0, recorder);
  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(result.state, Job::FAILED);
  // Once, unless this machine stood still for as long.
  EXPECT_GE(recorder.reconnects, 1);
  EXPECT_LE(recorder.reconnected, recorder.reconnects);
  EXPECT_GE(recorder.reconnected, 1);
}

// With positions the server goes on; with a server that gives none what comes again is left out.
TEST(ReadTest, MetricsComeOnceAcrossDrops) {
  for (const bool positions : {true, false}) {
    FakeServer server;
    if (positions) {
      server.GivePositions();
    }
    server.AddJob(NamedJob("jobs/a", Job::SUCCEEDED), History(11, Job::SUCCEEDED));
    server.DropStreams({2, 0, positions ? 3 : 5});
    Client client(FastOptions(server.address()));
    normlab::v1::ReadMetricsRequest request;
    request.set_name("a");
    std::map<std::string, std::vector<int64_t>> steps;
    const absl::Status status =
        client.ReadMetrics(request, [&](const normlab::v1::ReadMetricsResponse& part) {
          steps[part.series()].insert(steps[part.series()].end(), part.steps().begin(),
                                      part.steps().end());
          return absl::OkStatus();
        });
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_THAT(steps["train/loss"], ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10));
    EXPECT_THAT(steps["train/accuracy"], SizeIs(11));
    EXPECT_THAT(steps["test/loss"], ElementsAre(5, 10));
    if (positions) {
      EXPECT_THAT(server.metric_positions(), ElementsAre("", "2", "2", "5"));
    } else {
      EXPECT_THAT(server.metric_positions(), ElementsAre("", "", "", ""));
    }
  }
}

TEST(ReadTest, LogsComeOnceAcrossDropsAndFollow) {
  FakeServer server;
  server.AddJob(NamedJob("jobs/a", Job::RUNNING), History(14, Job::STATE_UNSPECIFIED));
  server.DropStreams({1, 0, 1});
  Client client(FastOptions(server.address()));
  normlab::v1::ReadLogsRequest request;
  request.set_name("jobs/a");
  request.set_follow(true);
  std::vector<std::string> lines;
  const absl::Status status =
      client.ReadLogs(request, [&](const normlab::v1::ReadLogsResponse& response) {
        lines.push_back(response.line().text());
        if (lines.size() == 3) {
          server.AppendRecord("jobs/a", FakeLog("live"));
          server.AppendRecord("jobs/a", FakeState(Job::SUCCEEDED));
        }
        return absl::OkStatus();
      });
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_THAT(lines, ElementsAre("line 3", "line 7", "line 11", "live"));
}

}  // namespace
}  // namespace normlab::client
