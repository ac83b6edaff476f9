// Where the executor finds cores and memory, and attempts wait there before they run.
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"

#include "common/cache_folder.h"
#include "common/worker_exit.h"
#include "server/scheduler/controller_test_harness.h"

namespace normlab::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ControllerPlacedTest : public ControllerTest {
 protected:
  void SetUp() override {
    ControllerTest::SetUp();
    RestartPlaced({});
  }

  static ExecutorCapabilities Capabilities() {
    ExecutorCapabilities capabilities;
    capabilities.name = "Slurm";
    capabilities.places = true;
    capabilities.max_attempts = 3;
    capabilities.may_wait = true;
    capabilities.finds_unrecorded = true;
    capabilities.outlives_server = true;
    return capabilities;
  }
  // As another server on the same store; what `prepare` does is there before it starts.
  void RestartPlaced(const std::function<void(FakeExecutor&)>& prepare) {
    controller_->Stop();
    controller_.reset();
    executor_ = std::make_unique<FakeExecutor>();
    executor_->SetCapabilities(Capabilities());
    if (prepare) {
      prepare(*executor_);
    }
    StartController();
  }
  std::string Reason(const std::string& id) { return controller_->QueueReasons({id})[id]; }
  // What the job's log has of the worker's output.
  std::vector<std::string> OutputOf(const std::string& id) {
    std::vector<std::string> texts;
    const auto logs = store_->ReadLogs(id, 0, 1 << 20);
    EXPECT_TRUE(logs.ok()) << logs.status();
    for (const LogEntry& entry : logs->entries) {
      if (absl::StartsWith(entry.line.text(), "output: ")) {
        texts.push_back(entry.line.text());
      }
    }
    return texts;
  }
  // It runs, and its worker says nothing for as long as it may.
  void StayMute(const std::string& id) {
    WaitForLaunch(id, 1);
    Look();
    Sync();
    Advance(options_.hello_timeout);
  }
  // Long enough for a look at what waits.
  void Look() { Advance(absl::Seconds(1)); }
};

TEST_F(ControllerPlacedTest, CountsAttemptsAndNeitherCoresNorMemory) {
  const std::string a = Submit({.cores = 100, .memory_bytes = 1'000'000});
  const std::string b = Submit({.cores = 100, .memory_bytes = 1'000'000});
  const std::string c = Submit();
  WaitForLaunch(a, 1);
  WaitForLaunch(b, 1);
  WaitForLaunch(c, 1);
  const std::string d = Submit();
  Sync();
  EXPECT_EQ(executor_->launches().size(), 3u);
  EXPECT_THAT(Reason(d), HasSubstr("waits to be handed over: 3 of 3 attempts are"));
  executor_->ExitWithCode({a, 1}, 1);
  WaitForLaunch(d, 1);
}

TEST_F(ControllerPlacedTest, AWorkerIsNotPinned) {
  const std::string id = Submit({.cores = 2});
  const SubmitRequest launch = WaitForLaunch(id, 1);
  EXPECT_EQ(launch.assignment.cores_size(), 0);
  EXPECT_EQ(Get(id).attempts(0).cores_size(), 2) << "they count all the same";
}

TEST_F(ControllerPlacedTest, WaitsForAsLongAsItTakesAndSaysForWhat) {
  executor_->SetWaiting("Resources");
  const std::string id = Submit();
  WaitForLaunch(id, 1);
  Look();
  WaitUntil("it says so", [&] { return Reason(id) == "waits in Slurm: Resources"; });
  Advance(10 * options_.hello_timeout);
  Sync();
  EXPECT_TRUE(executor_->IsRunning({id, 1}));
  EXPECT_TRUE(executor_->kills().empty());
  // From when it runs, it has the time that every worker has.
  executor_->Run({id, 1});
  Look();
  Sync();
  Advance(options_.hello_timeout - absl::Seconds(2));
  Sync();
  EXPECT_TRUE(executor_->kills().empty());
  Advance(absl::Seconds(3));
  const v1::Job job = WaitForState(id, v1::Job::FAILED);
  EXPECT_EQ(job.failure().reason(), v1::FailureReason::WORKER_START_FAILED);
}

// Whether the cache of decoded data sets keeps the file when it has no room.
bool OutlivesAFullDisk(const std::filesystem::path& file) {
  common::PruneCacheFolder(file.parent_path().string(), common::kLeastCache);
  return std::filesystem::exists(file);
}

TEST_F(ControllerPlacedTest, TheDataOfWhatWaitsStays) {
  const std::filesystem::path folder =
      std::filesystem::path(::testing::TempDir()) / absl::StrCat("placed-", getpid());
  std::filesystem::create_directories(folder);
  const std::filesystem::path data = folder / "set.nldata";
  std::ofstream(data) << "x";
  helper_.SetHandler([&](const v1::HelperRequest& request) {
    v1::HelperResponse response;
    response.set_id(request.id());
    response.mutable_data()->set_data_cache(data.string());
    return response;
  });
  const auto grow_old = [&] {
    std::filesystem::last_write_time(
        data, std::filesystem::file_time_type::clock::now() - std::chrono::hours(2));
  };
  executor_->SetWaiting("Resources");
  const std::string id = Submit();
  const SubmitRequest launch = WaitForLaunch(id, 1);
  ASSERT_EQ(launch.assignment.data_cache(), data.string());
  for (int hour = 0; hour < 2; ++hour) {
    grow_old();
    Advance(absl::Hours(1));
    Sync();
    WaitUntil("it is marked as used", [&] {
      return std::filesystem::last_write_time(data) >
             std::filesystem::file_time_type::clock::now() - std::chrono::minutes(5);
    });
    EXPECT_TRUE(OutlivesAFullDisk(data));
  }
  // Once its worker is there nobody keeps it: a file that is mapped can be removed.
  executor_->Run({id, 1});
  ASSERT_TRUE(Connect(HelloOf(launch), std::make_shared<FakeSession>()).ok());
  Sync();
  grow_old();
  Advance(absl::Hours(1));
  Sync();
  EXPECT_FALSE(OutlivesAFullDisk(data));
  std::filesystem::remove_all(folder);
}

TEST_F(ControllerPlacedTest, ARunWhoseDataIsGoneIsHandedOverAgain) {
  executor_->SetWaiting("Resources");
  const std::string id = Submit();
  WaitForLaunch(id, 1);
  EXPECT_EQ(helper_.requests().size(), 1u);
  executor_->Run({id, 1});
  ASSERT_TRUE(executor_->ExitWithCode({id, 1}, common::kExitDataUnusable));
  WaitForState(id, v1::Job::QUEUED);
  EXPECT_EQ(Get(id).attempts_size(), 0) << "as if it had not begun";
  Advance(absl::Minutes(10));
  WaitUntil("it is handed over again", [&] { return executor_->launches().size() == 2; });
  EXPECT_EQ(helper_.requests().size(), 2u) << "the data is made ready anew";
}

TEST_F(ControllerPlacedTest, WhatSrunSaysOfMemoryIsBelieved) {
  for (const bool memory : {true, false}) {
    const std::string id = Submit();
    const SubmitRequest launch = WaitForLaunch(id, 1);
    std::filesystem::create_directories(std::filesystem::path(launch.log_path).parent_path());
    std::ofstream(launch.log_path)
        << "a line\nsrun: error: n2: task 1: "
        << (memory ? "Out Of Memory" : "Exited with exit code 1") << "\n";
    ASSERT_TRUE(executor_->ExitWithCode({id, 1}, 1));
    EXPECT_EQ(WaitForState(id, v1::Job::FAILED).failure().reason(),
              memory ? v1::FailureReason::OUT_OF_MEMORY : v1::FailureReason::WORKER_START_FAILED);
  }
}

TEST_F(ControllerPlacedTest, WhatOthersWroteIsInTheLogOnce) {
  const std::string id = Submit({.max_retries = 1});
  for (int number = 1; number <= 2; ++number) {
    const SubmitRequest launch = WaitForLaunch(id, number);
    std::filesystem::create_directories(std::filesystem::path(launch.log_path).parent_path());
    std::ofstream(launch.log_path)
        << "2026-11-23T05:39:30.921 info begins\n"
        << "error while loading shared libraries: libx.so in attempt " << number << "\n";
    ASSERT_TRUE(executor_->ExitWithCode({id, number}, 9));
    if (number == 1) {
      WaitUntil("it is tried again", [&] {
        Advance(absl::Seconds(1));
        return executor_->launches().size() == 2;
      });
    }
  }
  WaitForState(id, v1::Job::FAILED);
  EXPECT_THAT(OutputOf(id),
              ElementsAre("output: error while loading shared libraries: libx.so in attempt 1",
                          "output: error while loading shared libraries: libx.so in attempt 2"));
}

TEST_F(ControllerPlacedTest, AnAttemptThatEndsWellTellsWhatOthersWroteWithItsOutcome) {
  const std::string id = Submit();
  const SubmitRequest launch = WaitForLaunch(id, 1);
  std::filesystem::create_directories(std::filesystem::path(launch.log_path).parent_path());
  std::ofstream(launch.log_path) << "module load done\n2026-11-23T05:39:30.921 info begins\n";
  const std::vector<v1::Segment> records = controller_->UntoldOutput({id, 1});
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].log().text(), "output: module load done");
}

TEST_F(ControllerPlacedTest, WhatWaitsHasNoCores) {
  executor_->SetWaiting("Priority");
  const std::string id = Submit();
  WaitForLaunch(id, 1);
  EXPECT_EQ(Get(id).attempts(0).placement(), "Slurm") << "clients show it instead";
  Look();
  Sync();
  EXPECT_EQ(Get(id).attempts(0).placement(), "Slurm") << "it does not run anywhere yet";
}

TEST_F(ControllerPlacedTest, TheTimeLimitCountsFromTheStart) {
  executor_->SetWaiting("Priority");
  const std::string id = Submit({.time_limit = absl::Seconds(100)});
  const SubmitRequest launch = WaitForLaunch(id, 1);
  Advance(absl::Hours(5));
  Sync();
  EXPECT_TRUE(executor_->kills().empty());
  executor_->Run({id, 1});
  ASSERT_TRUE(Connect(HelloOf(launch), std::make_shared<FakeSession>()).ok());
  Advance(absl::Seconds(90));
  Sync();
  EXPECT_TRUE(executor_->kills().empty());
  Advance(absl::Seconds(11));
  Sync();
  Advance(options_.drain_grace);  // for its last reports
  EXPECT_EQ(WaitForState(id, v1::Job::FAILED).failure().reason(),
            v1::FailureReason::TIME_LIMIT_EXCEEDED);
}

TEST_F(ControllerPlacedTest, WaitingCostsTheOwnerNothing) {
  executor_->SetWaiting("Priority");
  const std::string id = Submit({.cores = 4});
  const SubmitRequest launch = WaitForLaunch(id, 1);
  Advance(absl::Hours(5));
  Sync();
  executor_->Run({id, 1});
  ASSERT_TRUE(Connect(HelloOf(launch), std::make_shared<FakeSession>()).ok());
  Sync();
  Advance(absl::Seconds(50));
  Sync();
  ASSERT_TRUE(ReportOutcome({id, 1}, 1, v1::Job::SUCCEEDED).ok());
  executor_->ExitWithCode({id, 1}, 0);
  WaitForState(id, v1::Job::SUCCEEDED);
  WaitUntil("it is corrected", [&] { return Get(id).attempts(0).core_seconds() < 1000; });
  EXPECT_NEAR(Get(id).attempts(0).core_seconds(), 200, 5);
}

TEST_F(ControllerPlacedTest, ACancelledOneThatWaitsIsTakenBack) {
  executor_->SetWaiting("Resources");
  const std::string id = Submit();
  WaitForLaunch(id, 1);
  RequestCancelOf(id);
  WaitForState(id, v1::Job::CANCELLED);
  EXPECT_FALSE(executor_->IsRunning({id, 1}));
}

TEST_F(ControllerPlacedTest, ALateAnswerFindsItCancelled) {
  executor_->HoldAnswers();
  const std::string id = Submit();
  WaitForLaunch(id, 1);
  RequestCancelOf(id);
  WaitForState(id, v1::Job::CANCELLED);
  executor_->ReleaseAnswers();
  Sync();
  EXPECT_FALSE(executor_->IsRunning({id, 1}));
  WaitUntil("it is forgotten", [&] { return controller_->GetLoad().running == 0; });
}

TEST_F(ControllerPlacedTest, ARefusedSubmissionFailsTheJobAtOnce) {
  executor_->SetLaunchStatus(
      absl::InvalidArgumentError("sbatch: invalid partition specified: nowhere"));
  const std::string id = Submit();
  const v1::Job job = WaitForState(id, v1::Job::FAILED);
  EXPECT_EQ(job.failure().reason(), v1::FailureReason::SUBMISSION_REFUSED);
  EXPECT_THAT(job.failure().message(), HasSubstr("invalid partition specified: nowhere"));
  EXPECT_EQ(job.attempts_size(), 1);
  EXPECT_TRUE(Starts().ok()) << "no other job is held back for it";
}

TEST_F(ControllerPlacedTest, WhatCannotBeSubmittedNowWaitsWithTheReason) {
  executor_->SetLaunchStatus(absl::UnavailableError("Unable to contact slurm controller"));
  const std::string id = Submit();
  WaitUntil("it was tried", [&] { return !executor_->launches().empty(); });
  WaitUntilQueuedAgain(id);
  EXPECT_THAT(Reason(id), HasSubstr("Unable to contact slurm controller"));
  EXPECT_EQ(Get(id).attempts_size(), 0);
  executor_->SetLaunchStatus(absl::OkStatus());
  WaitUntil("it is tried again", [&] {
    Advance(absl::Seconds(1));
    return executor_->IsRunning({id, 1});
  });
}

TEST_F(ControllerPlacedTest, ALimitOfOneHoldsNobodyElseBack) {
  executor_->SetLaunchStatus(absl::ResourceExhaustedError("Job violates accounting/QOS policy"));
  std::vector<std::string> limited;
  for (int i = 0; i < 5; ++i) {
    limited.push_back(Submit());
    WaitUntil("it says why it waits",
              [&] { return absl::StrContains(Reason(limited.back()), "QOS policy"); });
  }
  executor_->SetLaunchStatus(absl::OkStatus());
  EXPECT_TRUE(Starts().ok());
  const std::string other = Submit();
  WaitForLaunch(other, 1);
}

TEST_F(ControllerPlacedTest, WhenNobodyGetsThroughTheQueueIsKept) {
  // Three may be three jobs' bad luck.
  for (int i = 0; i < 3; ++i) {
    const std::string id = Submit();
    StayMute(id);
    EXPECT_THAT(WaitForState(id, v1::Job::FAILED).failure().message(),
                HasSubstr("--worker_address"));
  }
  const std::string id = Submit();
  StayMute(id);
  WaitUntilQueuedAgain(id);
  EXPECT_THAT(Reason(id), HasSubstr("--worker_address"));
  // One that gets through ends the count.
  WaitUntil("it is tried again", [&] {
    Advance(absl::Seconds(5));
    return executor_->IsRunning({id, 1});
  });
  ASSERT_TRUE(Connect(HelloOf(executor_->launches().back()), std::make_shared<FakeSession>()).ok());
  WaitForState(id, v1::Job::RUNNING);
  const std::string next = Submit();
  StayMute(next);
  WaitForState(next, v1::Job::FAILED);
}

TEST_F(ControllerPlacedTest, ANewServerEndsWhatItsPredecessorShouldHave) {
  executor_->SetWaiting("Resources");
  const std::string cancelled = Submit();
  const std::string paused = Submit();
  for (const std::string& id : {cancelled, paused}) {
    WaitForLaunch(id, 1);
    WaitUntil("its identity is stored", [&] {
      const auto secrets = store_->GetAttemptSecrets({id, 1});
      return secrets.ok() && !secrets->process_identity.empty();
    });
  }
  executor_->IgnoreKills(true);
  RequestCancelOf(cancelled);
  Pause(paused);
  WaitUntil("both are told", [&] { return executor_->kills().size() == 2; });
  RestartPlaced([&](FakeExecutor& next) {
    for (const std::string& id : {cancelled, paused}) {
      next.AddSurvivor(absl::StrCat("fake/", id, "/1"));
    }
    next.SetWaiting("Resources");
  });
  WaitForState(cancelled, v1::Job::CANCELLED);
  WaitForState(paused, v1::Job::PAUSED);
  EXPECT_FALSE(executor_->IsRunning({cancelled, 1}));
  EXPECT_FALSE(executor_->IsRunning({paused, 1}));
}

TEST_F(ControllerPlacedTest, AnAttemptThatWaitsHoldsNoOtherStartBack) {
  executor_->SetWaiting("Priority");
  const std::string waits = Submit();
  WaitForLaunch(waits, 1);
  executor_->SetLaunchStatus(absl::UnavailableError("Socket timed out"));
  const std::string id = Submit();
  WaitUntil("starts are held", [&] {
    Advance(absl::Seconds(1));
    return !Starts().ok();
  });
  executor_->SetLaunchStatus(absl::OkStatus());
  WaitUntil("it is tried again", [&] {
    Advance(absl::Seconds(5));
    return executor_->IsRunning({id, 1});
  });
  WaitUntil("starts are not held any more", [&] { return Starts().ok(); });
}

TEST_F(ControllerPlacedTest, EndsFromOutsideAreNoFaultOfTheJob) {
  for (const auto& [cause, reason] : std::vector<std::pair<ExitCause, v1::FailureReason::Kind>>{
           {ExitCause::kPreempted, v1::FailureReason::PREEMPTED},
           {ExitCause::kCancelledOutside, v1::FailureReason::PREEMPTED},
           {ExitCause::kNodeFailed, v1::FailureReason::NODE_FAILED},
           {ExitCause::kUnknown, v1::FailureReason::NODE_FAILED}}) {
    const std::string id = Submit();
    Run(id, 1);
    ProcessExit exit;
    exit.cause = cause;
    exit.description = "Slurm job 7 on n1: SOMETHING";
    ASSERT_TRUE(executor_->Exit({id, 1}, exit));
    Advance(options_.drain_grace);
    WaitForLaunch(id, 2);
    const v1::Failure failure = Get(id).attempts(0).failure();
    EXPECT_EQ(failure.reason(), reason) << ExitCauseName(cause);
    EXPECT_THAT(failure.message(), HasSubstr("Slurm job 7 on n1: SOMETHING"));
    RequestCancelOf(id);
    WaitForState(id, v1::Job::CANCELLED);
  }
}

TEST_F(ControllerPlacedTest, EndsOfTheJobsOwnFaultFailIt) {
  for (const auto& [cause, reason] : std::vector<std::pair<ExitCause, v1::FailureReason::Kind>>{
           {ExitCause::kOutOfMemory, v1::FailureReason::OUT_OF_MEMORY},
           {ExitCause::kTimeLimit, v1::FailureReason::TIME_LIMIT_EXCEEDED},
           {ExitCause::kRefused, v1::FailureReason::SUBMISSION_REFUSED}}) {
    const std::string id = Submit();
    WaitForLaunch(id, 1);
    ProcessExit exit;
    exit.cause = cause;
    exit.description = "Slurm job 7: THIS";
    ASSERT_TRUE(executor_->Exit({id, 1}, exit));
    const v1::Failure failure = WaitForState(id, v1::Job::FAILED).failure();
    EXPECT_EQ(failure.reason(), reason) << ExitCauseName(cause);
    EXPECT_THAT(failure.message(), HasSubstr("Slurm job 7: THIS"));
  }
}

TEST_F(ControllerPlacedTest, AStoppedServerLeavesThemAlone) {
  const std::string runs = Submit();
  const auto session = Run(runs, 1);
  executor_->SetWaiting("Resources");
  const std::string waits = Submit();
  WaitForLaunch(waits, 1);
  controller_->Drain();
  EXPECT_TRUE(controller_->WaitUntilIdle(absl::Seconds(60))) << "there is nothing to wait for";
  EXPECT_EQ(session->stops(), 0);
  EXPECT_TRUE(executor_->IsRunning({runs, 1}));
  EXPECT_TRUE(executor_->IsRunning({waits, 1}));
  EXPECT_TRUE(executor_->signals().empty());
}

TEST_F(ControllerPlacedTest, ANewServerFindsWhatRunsAndWhatWaits) {
  const std::string runs = Submit();
  const SubmitRequest launch = WaitForLaunch(runs, 1);
  Run(runs, 1);
  executor_->SetWaiting("Resources");
  const std::string waits = Submit();
  WaitForLaunch(waits, 1);
  for (const std::string& id : {runs, waits}) {
    WaitUntil("its identity is stored", [&] {
      const auto secrets = store_->GetAttemptSecrets({id, 1});
      return secrets.ok() && !secrets->process_identity.empty();
    });
  }
  RestartPlaced([&](FakeExecutor& next) {
    next.AddSurvivor(absl::StrCat("fake/", runs, "/1"), absl::Minutes(3));
    next.AddSurvivor(absl::StrCat("fake/", waits, "/1"));
    next.SetWaiting("Resources");
  });
  executor_->Run({runs, 1});
  Look();
  ASSERT_TRUE(Connect(HelloOf(launch), std::make_shared<FakeSession>()).ok());
  Advance(options_.adoption_grace + options_.hello_timeout);
  Sync();
  EXPECT_EQ(Reason(waits), "waits in Slurm: Resources");
  EXPECT_TRUE(executor_->IsRunning({runs, 1}));
  EXPECT_TRUE(executor_->IsRunning({waits, 1}));
  EXPECT_TRUE(executor_->launches().empty());
}

TEST_F(ControllerPlacedTest, ANewServerFindsWhatWasNeverNoted) {
  executor_->HoldAnswers();
  const std::string id = Submit();
  const SubmitRequest launch = WaitForLaunch(id, 1);
  RestartPlaced([&](FakeExecutor& next) { next.AddUnrecorded({id, 1}, "fake/found"); });
  ASSERT_TRUE(Connect(HelloOf(launch), std::make_shared<FakeSession>()).ok());
  EXPECT_TRUE(executor_->launches().empty());
  WaitUntil("it is noted", [&] {
    const auto secrets = store_->GetAttemptSecrets({id, 1});
    return secrets.ok() && secrets->process_identity == "fake/found";
  });
}

TEST_F(ControllerPlacedTest, NothingIsLostWhileSlurmDoesNotAnswer) {
  const std::string id = Submit();
  const SubmitRequest launch = WaitForLaunch(id, 1);
  Run(id, 1);
  WaitUntil("its identity is stored", [&] {
    const auto secrets = store_->GetAttemptSecrets({id, 1});
    return secrets.ok() && !secrets->process_identity.empty();
  });
  RestartPlaced([](FakeExecutor& next) {
    next.SetHealth(absl::UnavailableError("Unable to contact slurm controller"));
  });
  Advance(absl::Hours(1));
  Sync();
  EXPECT_EQ(Get(id).attempts_size(), 1);
  EXPECT_TRUE(executor_->kills().empty());
  executor_->SetHealth(absl::OkStatus());
  ASSERT_TRUE(Connect(HelloOf(launch), std::make_shared<FakeSession>()).ok());
  EXPECT_EQ(Get(id).attempts_size(), 1);
}

}  // namespace
}  // namespace normlab::server
