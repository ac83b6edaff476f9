#include "engine/worker/report_channel.h"

#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"

#include "common/ids.h"
#include "engine/worker/fake_server.h"

namespace normlab::engine {
namespace {

constexpr absl::Duration kDeadline =
    absl::Seconds(30);  // of conditions that hold within milliseconds

template <typename Condition>
bool Eventually(Condition condition) {
  const absl::Time deadline = absl::Now() + kDeadline;
  while (!condition() && absl::Now() < deadline) {
    std::this_thread::yield();
  }
  return condition();
}

class ReportChannelTest : public ::testing::Test {
 protected:
  ReportChannelTest()
      : folder_(absl::StrCat(::testing::TempDir(), "/", common::NewId(absl::Now()))) {
    std::filesystem::create_directories(folder_);
    server_ = std::make_unique<FakeServer>(absl::StrCat(folder_, "/worker.sock"));
  }
  ~ReportChannelTest() override {
    server_->Stop();
    std::filesystem::remove_all(folder_);
  }

  ReportChannelOptions Options() {
    ReportChannelOptions options;
    options.target = server_->target();
    options.hello.set_protocol_version(1);
    options.hello.set_job("jobs/1");
    options.hello.set_attempt(2);
    options.hello.set_secret("secret");
    options.first_backoff = absl::Milliseconds(5);
    options.max_backoff = absl::Milliseconds(20);
    options.on_end = [this](ChannelState state, const absl::Status& why) {
      end_state_ = state;
      end_status_ = why;
      ended_.Notify();
    };
    return options;
  }

  // A report that can be told from all others.
  static v1::WorkerReport Report(int64_t step) {
    v1::WorkerReport report;
    v1::MetricBlock& block = *report.add_segments()->mutable_metrics();
    block.add_series(1);
    block.add_steps(step);
    block.add_values(static_cast<double>(step));
    return report;
  }

  void SendMany(ReportChannel& channel, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      EXPECT_EQ(channel.Send(Report(sent_)), sent_ + 1);
      ++sent_;
    }
  }

  // Every report that was sent is there once, in order.
  void ExpectAllArrivedOnce() {
    const FakeServer::Seen seen = server_->seen();
    ASSERT_EQ(static_cast<int64_t>(seen.reports.size()), sent_);
    for (int64_t i = 0; i < sent_; ++i) {
      const v1::WorkerReport& report = seen.reports[static_cast<size_t>(i)];
      ASSERT_EQ(report.number(), i + 1);
      ASSERT_EQ(report.segments(0).metrics().steps(0), i);
    }
    EXPECT_EQ(seen.gaps, 0);
  }

  const std::string folder_;
  std::unique_ptr<FakeServer> server_;
  int64_t sent_ = 0;
  absl::Notification ended_;
  ChannelState end_state_ = ChannelState::kOpen;
  absl::Status end_status_;
};

TEST_F(ReportChannelTest, DeliversAndForgetsWhatIsAcknowledged) {
  server_->Start();
  ReportChannel channel(Options());
  SendMany(channel, 137);
  ASSERT_TRUE(channel.WaitUntilAcknowledged(kDeadline));
  EXPECT_EQ(channel.backlog().reports, 0);
  EXPECT_EQ(channel.backlog().bytes, 0);
  ExpectAllArrivedOnce();
  const FakeServer::Seen seen = server_->seen();
  ASSERT_EQ(seen.hellos.size(), 1U);
  EXPECT_EQ(seen.hellos[0].job(), "jobs/1");
  EXPECT_EQ(seen.hellos[0].attempt(), 2);
  EXPECT_EQ(seen.hellos[0].secret(), "secret");
  ASSERT_EQ(seen.header_hellos.size(), 1U);
  EXPECT_EQ(seen.header_hellos[0].job(), "jobs/1");
  EXPECT_EQ(seen.header_hellos[0].attempt(), 2);
  EXPECT_EQ(seen.header_hellos[0].secret(), "secret");
  EXPECT_EQ(seen.repeated, 0);
  channel.Close();
  EXPECT_EQ(channel.state(), ChannelState::kClosed);
  EXPECT_FALSE(ended_.HasBeenNotified());
}

TEST_F(ReportChannelTest, ConnectsToAServerThatComesLater) {
  ReportChannel channel(Options());
  SendMany(channel, 5);
  EXPECT_FALSE(channel.WaitUntilAcknowledged(absl::Milliseconds(50)));
  EXPECT_EQ(channel.backlog().reports, 5);
  EXPECT_GT(channel.backlog().bytes, 0);
  server_->Start();
  ASSERT_TRUE(channel.WaitUntilAcknowledged(kDeadline));
  ExpectAllArrivedOnce();
}

// Connections break after some reports, before and after they are stored, while more are being
// sent.
TEST_F(ReportChannelTest, EveryReportArrivesOnceOverBrokenConnections) {
  int calls = 0;
  server_->SetScript([&calls](const v1::WorkerReport&) {
    ++calls;
    return calls % 7 == 3   ? Reaction::kStoreAndDrop
           : calls % 7 == 5 ? Reaction::kLoseAndDrop
                            : Reaction::kAcknowledge;
  });
  server_->Start();
  ReportChannel channel(Options());
  for (int i = 0; i < 20; ++i) {
    SendMany(channel, 5);
    std::this_thread::yield();
  }
  ASSERT_TRUE(channel.WaitUntilAcknowledged(kDeadline));
  ExpectAllArrivedOnce();
  EXPECT_GT(server_->seen().hellos.size(), 20U);
}

TEST_F(ReportChannelTest, LateAcknowledgementsCoverEarlierReports) {
  server_->SetScript([](const v1::WorkerReport& report) {
    return report.number() % 11 == 0 ? Reaction::kAcknowledge : Reaction::kStoreSilently;
  });
  server_->Start();
  ReportChannel channel(Options());
  SendMany(channel, 32);
  ASSERT_TRUE(
      server_->WaitFor([](const FakeServer::Seen& seen) { return seen.reports.size() == 32; }));
  // 23 to 32: the acknowledgement of 22 was the last.
  EXPECT_TRUE(Eventually([&] { return channel.backlog().reports == 10; }));
  EXPECT_FALSE(channel.WaitUntilAcknowledged(absl::Milliseconds(50)));
  EXPECT_EQ(channel.backlog().reports, 10);
  SendMany(channel, 1);
  ASSERT_TRUE(channel.WaitUntilAcknowledged(kDeadline));
  ExpectAllArrivedOnce();
}

TEST_F(ReportChannelTest, GoesOnWithARestartedServerOnTheSameSocket) {
  // What the first server stored it never acknowledged: only the next one's welcome tells.
  server_->SetScript([](const v1::WorkerReport&) { return Reaction::kStoreSilently; });
  server_->Start();
  ReportChannel channel(Options());
  SendMany(channel, 9);
  ASSERT_TRUE(
      server_->WaitFor([](const FakeServer::Seen& seen) { return seen.reports.size() == 9; }));
  server_->Stop();
  SendMany(channel, 8);
  server_->SetScript(nullptr);
  server_->Start();
  ASSERT_TRUE(channel.WaitUntilAcknowledged(kDeadline));
  ExpectAllArrivedOnce();
  EXPECT_EQ(server_->seen().repeated, 0);  // the welcome said that nine are there
  EXPECT_GE(server_->seen().hellos.size(), 2U);
}

TEST_F(ReportChannelTest, ARefusedReportEndsTheChannel) {
  server_->SetScript([](const v1::WorkerReport& report) {
    return report.number() == 3 ? Reaction::kRefuse : Reaction::kAcknowledge;
  });
  server_->Start();
  ReportChannel channel(Options());
  SendMany(channel, 6);
  ASSERT_TRUE(ended_.WaitForNotificationWithTimeout(kDeadline));
  EXPECT_EQ(end_state_, ChannelState::kFenced);
  EXPECT_EQ(end_status_.message(), "this attempt is over");
  EXPECT_FALSE(channel.WaitUntilAcknowledged(kDeadline));
  EXPECT_EQ(channel.state(), ChannelState::kFenced);
}

TEST_F(ReportChannelTest, ARefusedHelloEndsTheChannelOnlyWhenItIsAboutTheAttempt) {
  server_->RefuseHello(absl::ResourceExhaustedError("too many"));
  server_->Start();
  ReportChannel channel(Options());
  ASSERT_TRUE(
      server_->WaitFor([](const FakeServer::Seen& seen) { return seen.hellos.size() >= 3; }));
  EXPECT_EQ(channel.state(), ChannelState::kOpen);
  server_->RefuseHello(absl::UnauthenticatedError("wrong secret"));
  ASSERT_TRUE(ended_.WaitForNotificationWithTimeout(kDeadline));
  EXPECT_EQ(end_state_, ChannelState::kFenced);
  EXPECT_EQ(end_status_.code(), absl::StatusCode::kUnauthenticated);
}

TEST_F(ReportChannelTest, AServerWithReportsOfAnotherProcessFencesThisOne) {
  server_->Start();
  {
    ReportChannel other(Options());
    SendMany(other, 2);
    ASSERT_TRUE(other.WaitUntilAcknowledged(kDeadline));
  }
  ReportChannel channel(Options());
  ASSERT_TRUE(ended_.WaitForNotificationWithTimeout(kDeadline));
  EXPECT_EQ(end_state_, ChannelState::kFenced);
}

TEST_F(ReportChannelTest, GivesUpAfterTheOrphanTimeout) {
  ReportChannelOptions options = Options();
  options.orphan_timeout = absl::Milliseconds(100);
  const absl::Time start = absl::Now();
  ReportChannel channel(std::move(options));
  SendMany(channel, 1);
  ASSERT_TRUE(ended_.WaitForNotificationWithTimeout(kDeadline));
  EXPECT_GE(absl::Now() - start, absl::Milliseconds(100));
  EXPECT_EQ(end_state_, ChannelState::kOrphaned);
  EXPECT_FALSE(channel.WaitUntilAcknowledged(kDeadline));
}

TEST_F(ReportChannelTest, AStopRequestArrivesAlsoAfterAReconnection) {
  absl::Mutex mu;
  int stops = 0;
  ReportChannelOptions options = Options();
  options.on_stop = [&](const v1::StopRequest& request) {
    absl::MutexLock lock(&mu);
    stops += request.kind() == v1::StopRequest::CANCEL ? 1 : 0;
  };
  const auto stopped = [&](int count) {
    absl::MutexLock lock(&mu);
    const auto ready = [&] { return stops >= count; };
    return mu.AwaitWithTimeout(absl::Condition(&ready), kDeadline);
  };
  server_->Start();
  ReportChannel channel(std::move(options));
  ASSERT_TRUE(
      server_->WaitFor([](const FakeServer::Seen& seen) { return seen.hellos.size() == 1; }));
  server_->RequestCancel();
  EXPECT_TRUE(stopped(1));
  server_->Stop();
  server_->Start();
  EXPECT_TRUE(stopped(2));
}

TEST_F(ReportChannelTest, KnowsWhichCheckpointIsStored) {
  // The acknowledgement of the second announcement is held back.
  server_->SetScript([](const v1::WorkerReport& report) {
    return report.checkpoint().step() == 20 ? Reaction::kStoreSilently : Reaction::kAcknowledge;
  });
  server_->Start();
  ReportChannel channel(Options());
  EXPECT_EQ(channel.committed_checkpoint_step(), -1);
  for (const int64_t step : {10, 20}) {
    v1::WorkerReport report;
    report.mutable_checkpoint()->set_step(step);
    channel.Send(std::move(report));
  }
  ASSERT_TRUE(
      server_->WaitFor([](const FakeServer::Seen& seen) { return seen.reports.size() == 2; }));
  EXPECT_TRUE(Eventually([&] { return channel.committed_checkpoint_step() == 10; }));
  EXPECT_FALSE(channel.WaitUntilAcknowledged(absl::Milliseconds(20)));
  EXPECT_EQ(channel.committed_checkpoint_step(), 10);
  channel.Send({});
  ASSERT_TRUE(channel.WaitUntilAcknowledged(kDeadline));
  EXPECT_EQ(channel.committed_checkpoint_step(), 20);
}

TEST_F(ReportChannelTest, AnOrderlyCloseIsSeenByTheServer) {
  server_->Start();
  ReportChannel channel(Options());
  v1::WorkerReport report;
  report.mutable_outcome()->set_state(v1::Job::SUCCEEDED);
  channel.Send(std::move(report));
  ASSERT_TRUE(channel.WaitUntilAcknowledged(kDeadline));
  channel.Close();
  EXPECT_TRUE(server_->WaitFor([](const FakeServer::Seen& seen) { return seen.finished; }));
}

TEST_F(ReportChannelTest, ClosesAtOnceWithoutAServer) {
  ReportChannelOptions options = Options();
  options.first_backoff = options.max_backoff = absl::Hours(1);
  ReportChannel channel(std::move(options));
  SendMany(channel, 3);
  channel.Close();
  EXPECT_EQ(channel.state(), ChannelState::kClosed);
}

}  // namespace
}  // namespace normlab::engine
