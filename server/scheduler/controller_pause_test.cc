// Pause, resume and drain; and what the helper's failures cost.
#include <signal.h>

#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "server/domain/errors.h"
#include "server/domain/transitions.h"
#include "server/scheduler/controller_test_harness.h"
#include "server/scheduler/retry.h"
#include "server/store/testing/forwarding_store.h"

namespace normlab::server {
namespace {

using ::testing::HasSubstr;

class ControllerPauseTest : public ControllerTest {
 protected:
  // The worker's answer to a stop with a checkpoint: the checkpoint of `step` and the outcome.
  void ReportPaused(const AttemptKey& attempt,
                    int64_t number,
                    int64_t step,
                    v1::FailureReason::Kind reason) {
    const std::string folder = "jobs/" + attempt.job_id + "/attempt-" +
                               std::to_string(attempt.number) + "/checkpoints/step-" +
                               std::to_string(step);
    std::filesystem::create_directories(options_.work_dir + "/" + folder);
    v1::WorkerReport report;
    report.set_number(number);
    report.mutable_checkpoint()->set_step(step);
    report.mutable_checkpoint()->set_folder(folder);
    ASSERT_TRUE(Report(attempt, report).ok());
    v1::WorkerReport last;
    last.set_number(number + 1);
    last.mutable_outcome()->set_state(v1::Job::PAUSED);
    last.mutable_outcome()->mutable_failure()->set_reason(reason);
    ASSERT_TRUE(Report(attempt, last).ok());
    ASSERT_TRUE(executor_->ExitWithCode(attempt, 0));
  }
  void WaitUntilFree() {
    WaitUntil("the cores are free", [&] { return controller_->GetLoad().free_cores == 4; });
  }
};

// A store whose disk cannot be read for a while.
class UnreadableStore final : public testing::ForwardingStore {
 public:
  using ForwardingStore::ForwardingStore;
  absl::StatusOr<v1::Job> GetJob(const std::string& job_id) override {
    if (failures.load() > 0) {
      --failures;
      return StorageUnavailable("a test");
    }
    return ForwardingStore::GetJob(job_id);
  }
  std::atomic<int> failures = 0;
};

TEST_F(ControllerPauseTest, APauseIsNotForgottenWhenTheJobCannotBeReadJustThen) {
  controller_.reset();
  auto flaky = std::make_unique<UnreadableStore>(std::move(store_));
  UnreadableStore& store = *flaky;
  store_ = std::move(flaky);
  StartController();
  const std::string id = Submit();
  const auto session = Run(id, 1);
  Sync();
  store.failures = 2;
  Pause(id);
  Sync();
  EXPECT_EQ(session->stops(), 0);
  EXPECT_EQ(store.failures.load(), 1);
  Advance(absl::Seconds(1));  // fails again
  Sync();
  EXPECT_EQ(session->stops(), 0);
  WaitUntil("the second look", [&] { return store.failures.load() == 0; });
  Advance(absl::Seconds(1));
  WaitUntil("the worker is asked", [&] { return session->stops() == 1; });
  EXPECT_EQ(session->last_stop().reason(), v1::FailureReason::PAUSED);
  ReportPaused({id, 1}, 1, 40, v1::FailureReason::PAUSED);
  WaitForState(id, v1::Job::PAUSED);
}

TEST_F(ControllerPauseTest, ARunningJobPausesWithACheckpointAndGoesOnFromIt) {
  const std::string id = Submit();
  const auto session = Run(id, 1);
  EXPECT_TRUE(Pause(id).has_pause_request_time());
  Pause(id);  // harmless
  WaitUntil("the worker is asked", [&] { return session->stops() > 0; });
  Sync();
  EXPECT_EQ(session->stops(), 1);
  EXPECT_EQ(session->last_stop().kind(), v1::StopRequest::CHECKPOINT);
  EXPECT_EQ(session->last_stop().reason(), v1::FailureReason::PAUSED);
  EXPECT_EQ(Get(id).state(), v1::Job::RUNNING);
  ReportPaused({id, 1}, 1, 40, v1::FailureReason::PAUSED);
  WaitForState(id, v1::Job::PAUSED);
  WaitUntilFree();
  // It rests, also over a restart.
  RestartServer({});
  Advance(absl::Hours(2));
  Sync();
  EXPECT_EQ(controller_->GetLoad().queued, 0);
  EXPECT_TRUE(executor_->launches().empty());

  EXPECT_EQ(Resume(id).state(), v1::Job::QUEUED);
  const SubmitRequest launch = WaitForLaunch(id, 2);
  EXPECT_EQ(launch.assignment.resume_from(),
            options_.work_dir + "/jobs/" + id + "/attempt-1/checkpoints/step-40");
  Run(id, 2);
  EXPECT_EQ(Get(id).attempts(1).start_step(), 40);
}

TEST_F(ControllerPauseTest, PauseBeforeTheHelloEndsTheAttemptAtOnce) {
  const std::string id = Submit();
  WaitForLaunch(id, 1);
  Sync();
  Pause(id);
  WaitForState(id, v1::Job::PAUSED);
  EXPECT_FALSE(executor_->IsRunning({id, 1}));
  EXPECT_EQ(Get(id).attempts(0).failure().reason(), v1::FailureReason::PAUSED);
  WaitUntilFree();
  Resume(id);
  Run(id, 2);
}

TEST_F(ControllerPauseTest, PauseWhileTheDataIsLookedAt) {
  helper_.Hold();
  const std::string id = Submit();
  WaitUntil("the helper is asked", [&] { return helper_.requests().size() == 1; });
  Pause(id);
  WaitForState(id, v1::Job::PAUSED);
  helper_.Release();
  Sync();
  EXPECT_TRUE(executor_->launches().empty());
  WaitUntilFree();
}

TEST_F(ControllerPauseTest, APauseThatIsTakenBackInTimeIsNone) {
  const std::string id = Submit();
  const auto first = Run(id, 1);
  // Not connected just now.
  controller_->Disconnected({id, 1}, first.get());
  Pause(id);
  Sync();
  Resume(id);
  const auto second = std::make_shared<FakeSession>();
  ASSERT_TRUE(Connect(HelloOf(WaitForLaunch(id, 1)), second).ok());
  Sync();
  EXPECT_EQ(first->stops(), 0);
  EXPECT_EQ(second->stops(), 0);
  EXPECT_EQ(Get(id).state(), v1::Job::RUNNING);
}

TEST_F(ControllerPauseTest, APauseThatIsTakenBackTooLateQueuesTheJobAgain) {
  const std::string id = Submit();
  const auto session = Run(id, 1);
  Pause(id);
  WaitUntil("the worker is asked", [&] { return session->stops() == 1; });
  EXPECT_FALSE(Resume(id).has_pause_request_time());
  ReportPaused({id, 1}, 1, 7, v1::FailureReason::PAUSED);
  // At once: no back-off, no retry used.
  EXPECT_THAT(WaitForLaunch(id, 2).assignment.resume_from(), HasSubstr("step-7"));
  EXPECT_EQ(RetriesUsed(Get(id)), 0);
}

TEST_F(ControllerPauseTest, AReconnectingWorkerIsToldOfAPauseItMissed) {
  const std::string id = Submit();
  const auto first = Run(id, 1);
  controller_->Disconnected({id, 1}, first.get());
  Pause(id);
  const auto second = std::make_shared<FakeSession>();
  ASSERT_TRUE(Connect(HelloOf(WaitForLaunch(id, 1)), second).ok());
  WaitUntil("it is told", [&] { return second->stops() == 1; });
  EXPECT_EQ(second->last_stop().kind(), v1::StopRequest::CHECKPOINT);
}

TEST_F(ControllerPauseTest, AWorkerThatOutlivedItsServerIsToldOfThePause) {
  const std::string id = Submit();
  const SubmitRequest launch = WaitForLaunch(id, 1);
  Run(id, 1);
  Pause(id);
  RestartServer({"fake/" + id + "/1"});
  const auto session = std::make_shared<FakeSession>();
  ASSERT_TRUE(Connect(HelloOf(launch), session).ok());
  WaitUntil("it is told", [&] { return session->stops() == 1; });
  EXPECT_EQ(session->last_stop().reason(), v1::FailureReason::PAUSED);
}

TEST_F(ControllerPauseTest, ACrashWhilePausingPauses) {
  const std::string id = Submit();
  Run(id, 1);
  Pause(id);
  RestartServer({});  // the worker is gone, too
  EXPECT_EQ(WaitForState(id, v1::Job::PAUSED).attempts(0).failure().reason(),
            v1::FailureReason::SERVER_LOST);
  Sync();
  EXPECT_EQ(controller_->GetLoad().queued, 0);
  EXPECT_EQ(controller_->GetLoad().free_cores, 4);
}

TEST_F(ControllerPauseTest, CancelWinsOverPause) {
  const std::string id = Submit();
  const auto session = Run(id, 1);
  Pause(id);
  WaitUntil("the worker is asked", [&] { return session->stops() == 1; });
  RequestCancelOf(id);
  WaitUntil("it is asked again", [&] { return session->stops() == 2; });
  EXPECT_EQ(session->last_stop().kind(), v1::StopRequest::CANCEL);
  // It had begun to end with a checkpoint.
  ReportPaused({id, 1}, 1, 7, v1::FailureReason::PAUSED);
  WaitForState(id, v1::Job::CANCELLED);
  WaitUntilFree();
}

TEST_F(ControllerPauseTest, APausedQueuedJobLeavesTheQueue) {
  const std::string wide = Submit({.cores = 4});
  Run(wide, 1);
  const std::string id = Submit();
  WaitUntil("it waits", [&] { return controller_->GetLoad().queued == 1; });
  EXPECT_EQ(Pause(id).state(), v1::Job::PAUSED);
  WaitUntil("it does not", [&] { return controller_->GetLoad().queued == 0; });
  Resume(id);
  WaitUntil("it waits again", [&] { return controller_->GetLoad().queued == 1; });
  // Why, for people.
  EXPECT_THAT(controller_->QueueReasons({id, wide})[id],
              HasSubstr("waits for 1 core: 0 of 4 free, 0 jobs before it"));
  EXPECT_EQ(controller_->QueueReasons({id, wide}).count(wide), 0u);
}

TEST_F(ControllerPauseTest, APriorityThatIsChangedCounts) {
  const std::string wide = Submit({.cores = 4});
  Run(wide, 1);
  const std::string early = Submit({.cores = 4});
  const std::string late = Submit({.cores = 4});
  Ask(late, [](v1::Job& job, absl::Time, std::vector<v1::Segment>&) {
    job.set_priority(5);
    return absl::OkStatus();
  });
  ASSERT_TRUE(ReportOutcome({wide, 1}, 1, v1::Job::SUCCEEDED).ok());
  ASSERT_TRUE(executor_->ExitWithCode({wide, 1}, 0));
  WaitForLaunch(late, 1);
  EXPECT_EQ(Get(early).state(), v1::Job::QUEUED);
}

TEST_F(ControllerPauseTest, ADrainEndsEveryAttemptAndStartsNoMore) {
  const std::string trains = Submit();
  const auto session = Run(trains, 1);
  const std::string starts = Submit();
  WaitForLaunch(starts, 1);
  helper_.Hold();
  const std::string prepares = Submit();
  WaitUntil("the helper is asked", [&] { return helper_.requests().size() == 3; });
  controller_->Drain();
  WaitUntil("the worker is asked", [&] { return session->stops() == 1; });
  EXPECT_EQ(session->last_stop().kind(), v1::StopRequest::CHECKPOINT);
  EXPECT_EQ(session->last_stop().reason(), v1::FailureReason::SERVER_DRAINED);
  WaitForState(starts, v1::Job::QUEUED);
  WaitForState(prepares, v1::Job::QUEUED);
  EXPECT_EQ(Get(starts).attempts(0).failure().reason(), v1::FailureReason::SERVER_DRAINED);
  EXPECT_FALSE(executor_->IsRunning({starts, 1}));
  EXPECT_FALSE(controller_->WaitUntilIdle(absl::Milliseconds(1)));
  const std::string too_late = Submit();
  EXPECT_THAT(controller_->QueueReasons({too_late})[too_late], HasSubstr("being stopped"));
  ReportPaused({trains, 1}, 1, 12, v1::FailureReason::SERVER_DRAINED);
  EXPECT_TRUE(controller_->WaitUntilIdle(absl::Seconds(60)));
  helper_.Release();
  Sync();
  EXPECT_EQ(executor_->launches().size(), 2u);
  for (const std::string& id : {trains, starts, prepares, too_late}) {
    EXPECT_EQ(Get(id).state(), v1::Job::QUEUED);
    EXPECT_EQ(RetriesUsed(Get(id)), 0);
  }
  RestartServer({});
  EXPECT_THAT(WaitForLaunch(trains, 2).assignment.resume_from(), HasSubstr("step-12"));
}

TEST_F(ControllerPauseTest, AWorkerThatConnectsDuringADrainIsTold) {
  const std::string id = Submit();
  const auto first = Run(id, 1);
  controller_->Disconnected({id, 1}, first.get());
  controller_->Drain();
  const auto second = std::make_shared<FakeSession>();
  ASSERT_TRUE(Connect(HelloOf(WaitForLaunch(id, 1)), second).ok());
  WaitUntil("it is told", [&] { return second->stops() == 1; });
  EXPECT_EQ(second->last_stop().reason(), v1::FailureReason::SERVER_DRAINED);
}

TEST_F(ControllerPauseTest, AHelperThatCrashesAtTheLaunchCostsNoRetry) {
  int calls = 0;
  helper_.SetHandler(
      [&calls](const v1::HelperRequest& request) -> absl::StatusOr<v1::HelperResponse> {
        if (++calls < 3) {
          return HelperCrashed("signal 11");
        }
        v1::HelperResponse response;
        response.set_id(request.id());
        response.mutable_data()->set_data_cache("/cache/data");
        return response;
      });
  const std::string id = Submit();
  for (size_t asked = 1; asked <= 2; ++asked) {
    WaitUntil("the helper is asked", [&] { return helper_.requests().size() == asked; });
    Advance(absl::Seconds(1));
  }
  Run(id, 1);
  EXPECT_EQ(Get(id).attempts_size(), 1);
}

TEST_F(ControllerPauseTest, AHelperThatAlwaysCrashesEndsTheAttemptInTheEnd) {
  helper_.SetHandler([](const v1::HelperRequest&) -> absl::StatusOr<v1::HelperResponse> {
    return HelperCrashed("signal 11");
  });
  const std::string id = Submit();
  WaitUntil("it fails", [&] {
    clock_.Advance(absl::Seconds(1));
    return Get(id).state() == v1::Job::FAILED;
  });
  EXPECT_EQ(helper_.requests().size(), 5u);
  EXPECT_EQ(Get(id).failure().reason(), v1::FailureReason::DATA_ERROR);
}

TEST_F(ControllerPauseTest, OldCheckpointsGoWhenANewAttemptBegins) {
  const std::string id = Submit({.max_retries = 5});
  const std::string base = options_.work_dir + "/jobs/" + id + "/attempt-";
  for (int attempt = 1; attempt <= 3; ++attempt) {
    const auto session = Run(id, attempt);
    Pause(id);
    WaitUntil("the worker is asked", [&] { return session->stops() == 1; });
    ReportPaused({id, attempt}, 1, 10 * attempt, v1::FailureReason::PAUSED);
    WaitForState(id, v1::Job::PAUSED);
    Resume(id);
  }
  EXPECT_THAT(WaitForLaunch(id, 4).assignment.resume_from(), HasSubstr("attempt-3/"));
  EXPECT_FALSE(std::filesystem::exists(base + "1/checkpoints"));
  EXPECT_FALSE(std::filesystem::exists(base + "2/checkpoints"));
  EXPECT_TRUE(std::filesystem::exists(base + "3/checkpoints"));
}

TEST_F(ControllerPauseTest, ABackOffOutlivesTheServer) {
  const std::string id = Submit({.max_retries = 1});
  Run(id, 1);
  ExitBySignal({id, 1}, SIGKILL);
  Advance(options_.drain_grace);
  WaitUntilQueuedAgain(id);
  const absl::Duration delay = RetryDelay(Get(id));
  ASSERT_GT(delay, absl::ZeroDuration());
  RestartServer({});
  Sync();
  EXPECT_TRUE(executor_->launches().empty());
  EXPECT_THAT(controller_->QueueReasons({id})[id], HasSubstr("before it is tried again"));
  Advance(delay);
  WaitForLaunch(id, 2);
}

}  // namespace
}  // namespace normlab::server
