#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/api/testing/api_test.h"
#include "server/domain/names.h"

namespace normlab::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// What a watcher got: its records' steps or kinds, in order, with their sequences checked.
struct Watched {
  std::vector<int64_t> steps;
  std::vector<v1::Job::State> states;
  std::vector<std::string> logs;
  int64_t first = 0;  // sequences
  int64_t last = 0;
  int heartbeats = 0;
  grpc::Status status;
};

class StreamsTest : public ApiTest {
 protected:
  using Reader = std::unique_ptr<grpc::ClientReader<v1::WatchJobResponse>>;

  Reader Watch(grpc::ClientContext& context, const std::string& name, int64_t after) {
    // Only a bug waits so long.
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    v1::WatchJobRequest request;
    request.set_name(name);
    request.set_after_sequence(after);
    return jobs_->WatchJob(&context, request);
  }

  static void Take(const v1::WatchJobResponse& response, Watched& watched) {
    if (response.has_heartbeat()) {
      ++watched.heartbeats;
      return;
    }
    int64_t sequence = response.records().first_sequence();
    if (watched.first == 0) {
      watched.first = sequence;
    } else {
      EXPECT_EQ(sequence, watched.last + 1);
    }
    for (const v1::Segment& segment : response.records().segments()) {
      for (const int64_t step : segment.metrics().steps()) {
        watched.steps.push_back(step);
        ++sequence;
      }
      if (segment.has_state()) {
        watched.states.push_back(segment.state().state());
        ++sequence;
      }
      if (segment.has_log()) {
        watched.logs.push_back(segment.log().text());
        ++sequence;
      }
    }
    watched.last = sequence - 1;
  }

  Watched WatchAll(const std::string& name, int64_t after) {
    grpc::ClientContext context;
    Watched watched;
    Reader reader = Watch(context, name, after);
    v1::WatchJobResponse response;
    while (reader->Read(&response)) {
      Take(response, watched);
    }
    watched.status = reader->Finish();
    return watched;
  }

  // Waits until a condition that another thread brings about holds.
  template <typename Condition>
  static bool Eventually(Condition condition) {
    const absl::Time deadline = absl::Now() + absl::Seconds(30);
    while (!condition()) {
      if (absl::Now() > deadline) {
        return false;
      }
      std::this_thread::yield();
    }
    return true;
  }
};

TEST_F(StreamsTest, WatchGivesEverythingAndEndsAfterTheTerminalRecord) {
  Serve();
  const std::string name = FinishedJob(3, 5);
  const Watched watched = WatchAll(name, 0);
  EXPECT_TRUE(watched.status.ok()) << watched.status.error_message();
  EXPECT_EQ(watched.first, 1);
  EXPECT_EQ(watched.heartbeats, 1);  // the greeting
  EXPECT_EQ(watched.steps.size(), 15u);
  for (size_t i = 0; i < watched.steps.size(); ++i) {
    EXPECT_EQ(watched.steps[i], static_cast<int64_t>(i));
  }
  ASSERT_FALSE(watched.states.empty());
  EXPECT_EQ(watched.states.front(), v1::Job::QUEUED);
  EXPECT_EQ(watched.states.back(), v1::Job::SUCCEEDED);
}

TEST_F(StreamsTest, EveryPositionResumesExactly) {
  Serve();
  const std::string name = FinishedJob(3, 5);
  const int64_t last = WatchAll(name, 0).last;
  for (int64_t after = 0; after < last; ++after) {
    const Watched rest = WatchAll(name, after);
    EXPECT_TRUE(rest.status.ok()) << rest.status.error_message();
    EXPECT_EQ(rest.first, after + 1);
    EXPECT_EQ(rest.last, last);
  }
  const Watched nothing = WatchAll(name, last);
  EXPECT_TRUE(nothing.status.ok()) << nothing.status.error_message();
  EXPECT_EQ(nothing.first, 0);
  EXPECT_EQ(nothing.heartbeats, 1);
}

TEST_F(StreamsTest, PositionsThatCannotBeAreRefused) {
  Serve();
  const std::string name = FinishedJob(1, 3);
  const int64_t last = WatchAll(name, 0).last;
  const grpc::Status beyond = WatchAll(name, last + 1).status;
  EXPECT_EQ(beyond.error_code(), grpc::StatusCode::OUT_OF_RANGE);
  EXPECT_EQ(DetailOf<google::rpc::ErrorInfo>(beyond).metadata().at("last_sequence"),
            absl::StrCat(last));
  EXPECT_EQ(WatchAll(name, -1).status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(WatchAll("jobs/00000000000000000000", 0).status.error_code(),
            grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(WatchAll("nonsense", 0).status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(StreamsTest, FollowsALiveJobFromManyReadersAtOnce) {
  Serve();
  const std::string name = MustCreate().name();
  constexpr int kReaders = 8;
  std::vector<Watched> watched(kReaders);
  std::vector<std::thread> readers;
  for (int i = 0; i < kReaders; ++i) {
    readers.emplace_back([&, i] { watched[i] = WatchAll(name, 0); });
  }
  StartAttempt(name);
  constexpr int kReports = 200;
  for (int i = 0; i < kReports; ++i) {
    Report(name, i + 1, int64_t{i} * 3, 3);
  }
  ReportSuccess(name, kReports + 1);
  for (std::thread& reader : readers) {
    reader.join();
  }
  for (const Watched& one : watched) {
    EXPECT_TRUE(one.status.ok()) << one.status.error_message();
    EXPECT_EQ(one.first, 1);
    EXPECT_EQ(one.steps.size(), size_t{kReports} * 3);
    EXPECT_EQ(one.last, watched[0].last);
  }
  EXPECT_TRUE(Eventually([&] { return streams_->count() == 0; }));
  EXPECT_EQ(hub_.subscriber_count(), 0);
}

TEST_F(StreamsTest, SilenceIsFilledWithHeartbeatsThatCarryPositionAndProgress) {
  options_.heartbeat_interval = absl::Milliseconds(20);
  stream_options_.tick = absl::Milliseconds(5);
  Serve();
  const std::string name = MustCreate().name();
  StartAttempt(name);
  Report(name, 1, 0, 4);
  grpc::ClientContext context;
  Reader reader = Watch(context, name, 0);
  v1::WatchJobResponse response;
  ASSERT_TRUE(reader->Read(&response));
  ASSERT_TRUE(response.has_heartbeat());
  EXPECT_EQ(response.heartbeat().sequence(), 0);
  int64_t sequence = 0;
  for (int heartbeats = 0; heartbeats < 3;) {
    ASSERT_TRUE(reader->Read(&response));
    if (response.has_heartbeat()) {
      ++heartbeats;
      EXPECT_EQ(response.heartbeat().sequence(), sequence);
      EXPECT_EQ(response.heartbeat().progress().step(), 4);
      EXPECT_TRUE(response.heartbeat().has_time());
    } else {
      Watched taken;
      Take(response, taken);
      sequence = taken.last;
    }
  }
  EXPECT_EQ(sequence, 7);  // QUEUED, STARTING, RUNNING, four steps
  context.TryCancel();
  reader->Finish();
}

TEST_F(StreamsTest, AClientThatGoesAwayLeavesNothingBehind) {
  Serve();
  const std::string name = MustCreate().name();
  StartAttempt(name);
  constexpr int kClients = 20;
  for (int i = 0; i < kClients; ++i) {
    grpc::ClientContext context;
    Reader reader = Watch(context, name, 0);
    v1::WatchJobResponse response;
    if (i % 3 != 0) {
      ASSERT_TRUE(reader->Read(&response));
    }
    Report(name, i + 1, i, 1);
    context.TryCancel();
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  EXPECT_TRUE(Eventually([&] { return streams_->count() == 0; }));
  EXPECT_TRUE(Eventually([&] { return hub_.subscriber_count() == 0; }));
}

TEST_F(StreamsTest, DrainEndsStreamsWithThePositionToResumeFrom) {
  Serve();
  const std::string name = MustCreate().name();
  StartAttempt(name);
  Report(name, 1, 0, 4);
  grpc::ClientContext context;
  Reader reader = Watch(context, name, 0);
  v1::WatchJobResponse response;
  Watched watched;
  while (watched.last < 7 && reader->Read(&response)) {
    Take(response, watched);
  }
  streams_->Drain();
  while (reader->Read(&response)) {
    Take(response, watched);
  }
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(Reason(status), "SHUTTING_DOWN");
  EXPECT_EQ(DetailOf<google::rpc::ErrorInfo>(status).metadata().at("after_sequence"), "7");
  EXPECT_THAT(status.error_message(), HasSubstr("after_sequence=7"));
  EXPECT_EQ(DetailOf<google::rpc::RetryInfo>(status).retry_delay().seconds(), 1);
  EXPECT_TRUE(streams_->WaitUntilEmpty(absl::Seconds(30)));
  // New ones are refused the same way.
  const grpc::Status refused = WatchAll(name, 0).status;
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(StreamsTest, TooManyStreamsAreRefused) {
  stream_options_.max_streams = 1;
  Serve();
  const std::string name = MustCreate().name();
  grpc::ClientContext context;
  Reader reader = Watch(context, name, 0);
  v1::WatchJobResponse response;
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(WatchAll(name, 0).status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  context.TryCancel();
  reader->Finish();
}

// A reader that takes nothing: the transport's windows fill, then a write gets stuck.
TEST_F(StreamsTest, ASlowReaderIsCutOffWithItsPosition) {
  stream_options_.write_timeout = absl::Milliseconds(200);
  stream_options_.tick = absl::Milliseconds(10);
  std::atomic<int> cut_off = 0;
  stream_options_.on_cut_off = [&] { ++cut_off; };
  Serve();
  // Several times what gRPC buffers on both ends.
  constexpr int kReports = 40;
  constexpr int kSteps = 40000;
  const std::string name = FinishedJob(kReports, kSteps);
  grpc::ClientContext context;
  Reader reader = Watch(context, name, 0);
  ASSERT_TRUE(Eventually([&] { return cut_off.load() == 1; }));
  // It reads on at last and learns where to go on, unless it was too late even for that.
  Watched watched;
  v1::WatchJobResponse response;
  while (reader->Read(&response)) {
    Take(response, watched);
  }
  const grpc::Status status = reader->Finish();
  EXPECT_LT(watched.steps.size(), size_t{kReports} * kSteps);
  EXPECT_TRUE(streams_->WaitUntilEmpty(absl::Seconds(30)));
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE) {
    EXPECT_EQ(Reason(status), "READER_TOO_SLOW");
    EXPECT_EQ(DetailOf<google::rpc::ErrorInfo>(status).metadata().at("after_sequence"),
              absl::StrCat(watched.last));
    EXPECT_GT(DetailOf<google::rpc::RetryInfo>(status).retry_delay().nanos(), 0);
  } else {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::CANCELLED) << status.error_message();
  }
  const Watched rest = WatchAll(name, watched.last);
  EXPECT_TRUE(rest.status.ok());
  EXPECT_EQ(watched.steps.size() + rest.steps.size(), size_t{kReports} * kSteps);
}

TEST_F(StreamsTest, AFollowedLogHasHeartbeatsWithItsPosition) {
  options_.heartbeat_interval = absl::Milliseconds(20);
  Serve();
  const std::string name = MustCreate().name();
  StartAttempt(name);
  Report(name, 1, 0, 3);
  ReportLog(name, 2, "one");
  Report(name, 3, 3, 7);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
  v1::ReadLogsRequest request;
  request.set_name(name);
  request.set_follow(true);
  auto reader = jobs_->ReadLogs(&context, request);
  v1::ReadLogsResponse response;
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.line().text(), "one");
  const int64_t line = response.sequence();
  // Not the line's: everything up to the last record was looked through.
  ASSERT_TRUE(reader->Read(&response));
  ASSERT_TRUE(response.has_heartbeat());
  EXPECT_FALSE(response.has_line());
  EXPECT_EQ(response.heartbeat().sequence(), line + 7);
  EXPECT_TRUE(response.heartbeat().has_time());
  ReportLog(name, 4, "two");
  int heartbeats = 0;
  while (reader->Read(&response) && response.has_heartbeat()) {
    ++heartbeats;
    EXPECT_EQ(response.heartbeat().sequence(), line + 7);
  }
  EXPECT_EQ(response.line().text(), "two");
  EXPECT_EQ(response.sequence(), line + 8);
  ReportSuccess(name, 5);
  while (reader->Read(&response)) {
    EXPECT_TRUE(response.has_heartbeat());
  }
  EXPECT_TRUE(reader->Finish().ok());
  // Without follow there is nothing to wait for, and so no heartbeat.
  grpc::ClientContext again;
  request.set_follow(false);
  auto rest = jobs_->ReadLogs(&again, request);
  std::vector<std::string> lines;
  while (rest->Read(&response)) {
    EXPECT_FALSE(response.has_heartbeat());
    lines.push_back(response.line().text());
  }
  EXPECT_TRUE(rest->Finish().ok());
  EXPECT_THAT(lines, ElementsAre("one", "two"));
}

TEST_F(StreamsTest, ReadLogsGivesLinesAndFollowsToTheEnd) {
  Serve();
  const std::string name = MustCreate().name();
  StartAttempt(name);
  Report(name, 1, 0, 5);
  ReportLog(name, 2, "one");
  Report(name, 3, 5, 5);
  ReportLog(name, 4, "two");
  const auto read = [&](int64_t after, bool follow, grpc::Status* status) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    v1::ReadLogsRequest request;
    request.set_name(name);
    request.set_after_sequence(after);
    request.set_follow(follow);
    auto reader = jobs_->ReadLogs(&context, request);
    v1::ReadLogsResponse response;
    std::vector<std::pair<std::string, int64_t>> lines;
    while (reader->Read(&response)) {
      lines.emplace_back(response.line().text(), response.sequence());
    }
    *status = reader->Finish();
    return lines;
  };
  grpc::Status status;
  const auto lines = read(0, false, &status);
  EXPECT_TRUE(status.ok()) << status.error_message();
  // QUEUED, STARTING, RUNNING, five steps, the line.
  EXPECT_THAT(lines, ElementsAre(std::make_pair(std::string("one"), int64_t{9}),
                                 std::make_pair(std::string("two"), int64_t{15})));
  EXPECT_THAT(read(9, false, &status),
              ElementsAre(std::make_pair(std::string("two"), int64_t{15})));

  std::vector<std::pair<std::string, int64_t>> followed;
  std::thread follower([&] { followed = read(9, true, &status); });
  ReportLog(name, 5, "three");
  ReportSuccess(name, 6);
  follower.join();
  EXPECT_TRUE(status.ok()) << status.error_message();
  ASSERT_GE(followed.size(), 2u);
  EXPECT_EQ(followed[0].first, "two");
  EXPECT_EQ(followed[1].first, "three");
}

}  // namespace
}  // namespace normlab::server
