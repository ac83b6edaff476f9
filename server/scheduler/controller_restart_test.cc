// What a new server makes of what an earlier one left.
#include <signal.h>

#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "server/scheduler/controller.h"
#include "server/scheduler/controller_test_harness.h"

namespace normlab::server {
namespace {

using ::testing::UnorderedElementsAre;

class ControllerRestartTest : public ControllerTest {
 protected:
  // A running job of two cores with two stored reports, whose process has the identity that the
  // fake gives it.
  void StartOne() {
    id_ = Submit({.cores = 2});
    launch_ = WaitForLaunch(id_, 1);
    Run(id_, 1);
    for (int64_t number = 1; number <= 2; ++number) {
      v1::WorkerReport report;
      report.set_number(number);
      ASSERT_TRUE(Report({id_, 1}, report).ok());
    }
    identity_ = "fake/" + id_ + "/1";
  }

  // How jobs came through the restart, in order.
  class Recoveries final : public Observer {
   public:
    void OnRecovered(Recovery how) override {
      absl::MutexLock lock(&mu_);
      all_.push_back(how);
    }
    std::vector<Recovery> all() const {
      absl::MutexLock lock(&mu_);
      return all_;
    }

   private:
    mutable absl::Mutex mu_;
    std::vector<Recovery> all_ ABSL_GUARDED_BY(mu_);
  };

  Recoveries recoveries_;
  std::string id_;
  SubmitRequest launch_;
  std::string identity_;
};

TEST_F(ControllerRestartTest, AJobWhoseWorkerIsGoneIsStartedAgain) {
  StartOne();
  RestartServer({});
  const SubmitRequest again = WaitForLaunch(id_, 2);
  EXPECT_NE(again.assignment.secret(), launch_.assignment.secret());
  const v1::Job job = Get(id_);
  EXPECT_EQ(job.attempts(0).state(), v1::Attempt::ENDED);
  EXPECT_EQ(job.attempts(0).failure().reason(), v1::FailureReason::SERVER_LOST);
  // Should the old worker be alive after all, it is fenced.
  EXPECT_EQ(Connect(HelloOf(launch_), std::make_shared<FakeSession>()).status().code(),
            absl::StatusCode::kFailedPrecondition);
  Run(id_, 2);
}

TEST_F(ControllerRestartTest, EveryUnfinishedJobIsToldOnceByHowItCameThrough) {
  StartOne();
  const std::string lost = Submit({.cores = 1});
  WaitForLaunch(lost, 1);
  Run(lost, 1);
  const std::string cancelled = Submit({.cores = 1});
  WaitForLaunch(cancelled, 1);
  Run(cancelled, 1);
  const std::string waiting = Submit({.cores = 4});
  RequestCancelOf(cancelled);
  told_ = &recoveries_;
  RestartServer({identity_});
  ASSERT_TRUE(Connect(HelloOf(launch_), std::make_shared<FakeSession>()).ok());
  WaitForState(cancelled, v1::Job::CANCELLED);
  WaitForLaunch(lost, 2);
  Sync();
  EXPECT_THAT(recoveries_.all(), UnorderedElementsAre(Recovery::kQueued, Recovery::kReconnected,
                                                      Recovery::kRequeued, Recovery::kEnded));
  // What happens to them later is no recovery.
  Run(lost, 2);
  ASSERT_TRUE(ReportOutcome({lost, 2}, 1, v1::Job::SUCCEEDED).ok());
  WaitForState(lost, v1::Job::SUCCEEDED);
  EXPECT_EQ(recoveries_.all().size(), 4U);
}

TEST_F(ControllerRestartTest, AWorkerThatOutlivedTheServerGoesOn) {
  StartOne();
  RestartServer({identity_});
  EXPECT_EQ(controller_->GetLoad().running, 1);
  const std::string wide = Submit({.cores = 3});
  Sync();
  Sync();
  EXPECT_EQ(Get(wide).state(), v1::Job::QUEUED) << "the survivor keeps its cores";
  const auto session = std::make_shared<FakeSession>();
  const auto welcome = Connect(HelloOf(launch_), session);
  ASSERT_TRUE(welcome.ok()) << welcome.status();
  EXPECT_EQ(welcome->last_report(), 2);
  Advance(options_.adoption_grace + options_.hello_timeout);
  Sync();
  EXPECT_TRUE(executor_->IsRunning({id_, 1}));
  ASSERT_TRUE(ReportOutcome({id_, 1}, 3, v1::Job::SUCCEEDED).ok());
  const v1::Job job = WaitForState(id_, v1::Job::SUCCEEDED);
  EXPECT_EQ(job.attempts_size(), 1);
  ProcessExit exit;
  exit.description = "ended";
  ASSERT_TRUE(executor_->Exit({id_, 1}, exit));
  WaitForLaunch(wide, 1);
}

TEST_F(ControllerRestartTest, ASurvivorThatDoesNotComeBackIsEnded) {
  StartOne();
  RestartServer({identity_});
  Advance(options_.adoption_grace - absl::Milliseconds(1));
  Sync();
  EXPECT_TRUE(executor_->IsRunning({id_, 1}));
  Advance(absl::Milliseconds(1));
  WaitForLaunch(id_, 2);
  EXPECT_EQ(executor_->kills().size(), 1u);
  EXPECT_EQ(Get(id_).attempts(0).failure().reason(), v1::FailureReason::SERVER_LOST);
}

TEST_F(ControllerRestartTest, ASurvivorThatEndsBeforeItsHelloIsLostWithTheServer) {
  StartOne();
  RestartServer({identity_});
  ProcessExit exit;
  exit.description = "ended";
  ASSERT_TRUE(executor_->Exit({id_, 1}, exit));
  WaitForLaunch(id_, 2);
  EXPECT_EQ(Get(id_).attempts(0).failure().reason(), v1::FailureReason::SERVER_LOST);
}

TEST_F(ControllerRestartTest, AnAdoptedWorkerThatCrashesHasCrashed) {
  StartOne();
  RestartServer({identity_});
  const auto session = std::make_shared<FakeSession>();
  ASSERT_TRUE(Connect(HelloOf(launch_), session).ok());
  controller_->Disconnected({id_, 1}, session.get());
  ProcessExit exit;
  exit.description = "ended";
  ASSERT_TRUE(executor_->Exit({id_, 1}, exit));
  EXPECT_EQ(WaitForState(id_, v1::Job::FAILED).failure().reason(),
            v1::FailureReason::WORKER_CRASHED);
}

TEST_F(ControllerRestartTest, ACancellationSurvivesTheServer) {
  StartOne();
  controller_->Stop();
  RequestCancelOf(id_);
  RestartServer({identity_});
  const auto session = std::make_shared<FakeSession>();
  ASSERT_TRUE(Connect(HelloOf(launch_), session).ok());
  WaitUntil("it is told to stop", [&] { return session->stops() == 1; });
  Advance(options_.cancel_grace);
  WaitUntil("it is killed", [&] { return !executor_->IsRunning({id_, 1}); });
  controller_->Disconnected({id_, 1}, session.get());
  WaitForState(id_, v1::Job::CANCELLED);
}

TEST_F(ControllerRestartTest, ACancelledJobWhoseWorkerIsGoneIsCancelled) {
  StartOne();
  controller_->Stop();
  RequestCancelOf(id_);
  RestartServer({});
  WaitForState(id_, v1::Job::CANCELLED);
  EXPECT_TRUE(executor_->launches().empty());
}

TEST_F(ControllerRestartTest, AnAttemptThatWasNeverLaunchedIsTakenUp) {
  helper_.Hold();
  const std::string id = Submit();
  WaitUntil("the helper is asked", [&] { return helper_.requests().size() == 1; });
  EXPECT_EQ(Get(id).state(), v1::Job::STARTING);
  RestartServer({});
  helper_.Release();
  Run(id, 2);
}

TEST_F(ControllerRestartTest, QueuedJobsKeepTheirTurn) {
  options_.cores = {0};
  RestartServer({});
  const std::string a = Submit();
  Run(a, 1);
  clock_.Advance(absl::Seconds(1));
  const std::string b = Submit();
  clock_.Advance(absl::Seconds(1));
  const std::string c = Submit();
  RestartServer({});
  // Oldest first, the lost one included.
  WaitForLaunch(a, 2);
  ExitBySignal({a, 2}, SIGKILL);
  WaitForLaunch(b, 1);
  Sync();
  EXPECT_EQ(Get(c).state(), v1::Job::QUEUED);
}

TEST_F(ControllerRestartTest, AJobThatTheNewServerIsTooSmallForWaitsAndSaysSo) {
  options_.cores = {0};
  controller_->Stop();
  const std::string wide = Submit({.cores = 2});
  const std::string narrow = Submit({.cores = 1});
  RestartServer({});
  WaitForLaunch(narrow, 1);
  EXPECT_EQ(Get(wide).state(), v1::Job::QUEUED);
  WaitUntil("a log line tells", [&] {
    const auto records = store_->ReadRecords(wide, 0, 1 << 20);
    for (const v1::RecordBatch& batch : records->batches) {
      for (const v1::Segment& segment : batch.segments()) {
        if (segment.log().text().find("waits for a larger server") != std::string::npos) {
          return true;
        }
      }
    }
    return false;
  });
}

TEST_F(ControllerRestartTest, TheTimeLimitCountsFromTheStartOfTheAttempt) {
  id_ = Submit({.time_limit = absl::Seconds(100)});
  launch_ = WaitForLaunch(id_, 1);
  Run(id_, 1);
  WaitUntil("the identity is stored", [&] {
    return !store_->GetAttemptSecrets({id_, 1})->process_identity.empty();
  });
  Advance(absl::Seconds(80));
  RestartServer({"fake/" + id_ + "/1"}, absl::Seconds(80));
  ASSERT_TRUE(Connect(HelloOf(launch_), std::make_shared<FakeSession>()).ok());
  Advance(absl::Seconds(19));
  Sync();
  EXPECT_TRUE(executor_->IsRunning({id_, 1}));
  Advance(absl::Seconds(1));
  WaitUntil("it is killed", [&] { return !executor_->IsRunning({id_, 1}); });
}

}  // namespace
}  // namespace normlab::server
