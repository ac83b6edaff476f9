#include "server/scheduler/controller.h"

#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "common/sha256.h"
#include "common/worker_exit.h"
#include "server/scheduler/controller_test_harness.h"
#include "server/scheduler/retry.h"

namespace normlab::server {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;

TEST_F(ControllerTest, RunsAJobFromQueueToResult) {
  const std::string id = Submit({.cores = 2, .memory_bytes = 300});
  const SubmitRequest launch = WaitForLaunch(id, 1);
  EXPECT_EQ(launch.assignment.job(), "jobs/" + id);
  EXPECT_EQ(launch.assignment.data_cache(), "/cache/data");
  EXPECT_EQ(launch.assignment.server(), "unix:/run/worker.sock");
  EXPECT_EQ(launch.assignment.resume_from(), "");
  EXPECT_THAT(launch.assignment.data_roots(), ElementsAre("/data"));
  EXPECT_THAT(launch.assignment.cores(), ElementsAre(0, 1));
  EXPECT_EQ(launch.assignment.memory_estimate_bytes(), 300);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_GT(launch.assignment.memory_limit_bytes(), 300);
#endif
  EXPECT_EQ(launch.assignment.orphan_timeout_ms(), 24 * 3600 * 1000);
  EXPECT_TRUE(std::filesystem::is_directory(launch.assignment.attempt_folder()));
  EXPECT_THAT(launch.assignment.attempt_folder(), EndsWith("/work/jobs/" + id + "/attempt-1"));
  EXPECT_EQ(helper_.requests().front().inspect_data().cache_folder(), options_.work_dir + "/cache");

  // The hash was durable before the launch; the process's identity follows.
  EXPECT_EQ(launch.assignment.secret().size(), 32u);
  EXPECT_EQ(store_->GetAttemptSecrets({id, 1})->secret_sha256,
            common::Sha256Bytes(launch.assignment.secret()));
  WaitUntil("the identity is stored", [&] {
    return store_->GetAttemptSecrets({id, 1})->process_identity == "fake/" + id + "/1";
  });
  EXPECT_EQ(Get(id).state(), v1::Job::STARTING);
  WaitUntil("the load is published", [&] { return controller_->GetLoad().free_cores == 2; });
  EXPECT_EQ(controller_->GetLoad().free_memory_bytes, 700);

  const auto session = Run(id, 1);
  ASSERT_TRUE(ReportOutcome({id, 1}, 1, v1::Job::SUCCEEDED).ok());
  EXPECT_EQ(Get(id).state(), v1::Job::SUCCEEDED);
  Sync();
  EXPECT_EQ(controller_->GetLoad().free_cores, 2) << "its process is still there";
  ASSERT_TRUE(executor_->ExitWithCode({id, 1}, 0));
  WaitUntil("the cores are free", [&] { return controller_->GetLoad().free_cores == 4; });
  EXPECT_EQ(Get(id).state(), v1::Job::SUCCEEDED);
  EXPECT_FALSE(session->closed().has_value()) << "the last acknowledgement has to get through";
}

TEST_F(ControllerTest, JobsShareTheMachineAndWaitForEachOther) {
  const std::string a = Submit({.cores = 2});
  const std::string b = Submit({.cores = 2});
  const SubmitRequest first = WaitForLaunch(a, 1);
  const SubmitRequest second = WaitForLaunch(b, 1);
  std::set<int> cores(first.assignment.cores().begin(), first.assignment.cores().end());
  cores.insert(second.assignment.cores().begin(), second.assignment.cores().end());
  EXPECT_EQ(cores.size(), 4u);
  const std::string c = Submit({.cores = 1});
  Sync();
  Sync();
  EXPECT_EQ(executor_->launches().size(), 2u);
  EXPECT_EQ(Get(c).state(), v1::Job::QUEUED);
  Run(b, 1);
  ASSERT_TRUE(ReportOutcome({b, 1}, 1, v1::Job::SUCCEEDED).ok());
  ASSERT_TRUE(executor_->ExitWithCode({b, 1}, 0));
  EXPECT_THAT(WaitForLaunch(c, 1).assignment.cores(), ElementsAre(second.assignment.cores(0)));
}

TEST_F(ControllerTest, AProcessThatStaysAfterItsResultIsKilled) {
  const std::string id = Submit();
  Run(id, 1);
  ASSERT_TRUE(ReportOutcome({id, 1}, 1, v1::Job::SUCCEEDED).ok());
  Advance(options_.exit_grace);
  WaitUntil("it is killed", [&] { return !executor_->IsRunning({id, 1}); });
  EXPECT_EQ(Get(id).state(), v1::Job::SUCCEEDED);
}

TEST_F(ControllerTest, ACrashWithoutRetriesFailsTheJobWithTheLastWords) {
  const std::string id = Submit();
  Run(id, 1);
  std::ofstream(WaitForLaunch(id, 1).log_path) << "first\nlast words\xff\n";
  controller_->Disconnected({id, 1}, nullptr);  // of an unknown session: nothing happens
  ExitBySignal({id, 1}, SIGSEGV);
  Sync();
  EXPECT_EQ(Get(id).state(), v1::Job::RUNNING) << "its session has not ended";
  Advance(options_.drain_grace);
  const v1::Job job = WaitForState(id, v1::Job::FAILED);
  EXPECT_EQ(job.failure().reason(), v1::FailureReason::WORKER_CRASHED);
  EXPECT_THAT(job.failure().message(), HasSubstr("signal 11"));
  EXPECT_THAT(job.failure().message(), HasSubstr("last words?"));
  WaitUntil("the cores are free", [&] { return controller_->GetLoad().free_cores == 4; });
}

TEST_F(ControllerTest, CrashesAreRetriedWithABackOff) {
  const std::string id = Submit({.max_retries = 2});
  for (int attempt = 1; attempt <= 3; ++attempt) {
    const auto session = Run(id, attempt);
    controller_->Disconnected({id, attempt}, session.get());
    ExitBySignal({id, attempt}, SIGKILL);
    if (attempt == 3) {
      break;
    }
    WaitUntilQueuedAgain(id);
    const absl::Duration back_off = RetryDelay(Get(id));  // about 1 s, 2 s
    Advance(back_off - absl::Milliseconds(1));
    Sync();
    EXPECT_EQ(executor_->launches().size(), static_cast<size_t>(attempt)) << "too early";
    Advance(absl::Milliseconds(1));
  }
  const v1::Job job = WaitForState(id, v1::Job::FAILED);
  ASSERT_EQ(job.attempts_size(), 3);
  EXPECT_EQ(job.attempts(0).failure().reason(), v1::FailureReason::WORKER_CRASHED);
  std::set<std::string> secrets;
  for (const SubmitRequest& launch : executor_->launches()) {
    secrets.insert(launch.assignment.secret());
  }
  EXPECT_EQ(secrets.size(), 3u) << "every attempt has its own secret";
}

TEST_F(ControllerTest, AFailedOutcomeIsRetriedToo) {
  const std::string id = Submit({.max_retries = 1});
  Run(id, 1);
  ASSERT_TRUE(ReportOutcome({id, 1}, 1, v1::Job::FAILED).ok());
  EXPECT_EQ(Get(id).state(), v1::Job::QUEUED);
  Advance(absl::Seconds(5));
  Sync();
  EXPECT_EQ(executor_->launches().size(), 1u) << "its process has not gone yet";
  ASSERT_TRUE(executor_->ExitWithCode({id, 1}, 0));
  Run(id, 2);
}

TEST_F(ControllerTest, ExitsTellWhatWasWrong) {
  const std::string memory = Submit({.memory_bytes = 300});
  Run(memory, 1);
  ASSERT_TRUE(executor_->ExitWithCode({memory, 1}, common::kExitOutOfMemory));
  Advance(options_.drain_grace);
  v1::Failure failure = WaitForState(memory, v1::Job::FAILED).failure();
  EXPECT_EQ(failure.reason(), v1::FailureReason::OUT_OF_MEMORY);
  EXPECT_THAT(failure.message(), HasSubstr("estimate"));
  EXPECT_THAT(failure.message(), HasSubstr("limit"));

  const std::string mute = Submit();
  WaitForLaunch(mute, 1);
  ASSERT_TRUE(executor_->ExitWithCode({mute, 1}, 7));
  failure = WaitForState(mute, v1::Job::FAILED).failure();
  EXPECT_EQ(failure.reason(), v1::FailureReason::WORKER_START_FAILED);
  EXPECT_THAT(failure.message(), HasSubstr("exit code 7"));

  // Whoever ends the machine or its services in an orderly way takes the worker with it; not the
  // job's fault.
  const std::string told = Submit();
  Run(told, 1);
  ASSERT_TRUE(executor_->ExitWithCode({told, 1}, common::kExitTerminated));
  Advance(options_.drain_grace);
  WaitForLaunch(told, 2);
  EXPECT_EQ(Get(told).attempts(0).failure().reason(), v1::FailureReason::SERVER_LOST);
}

TEST_F(ControllerTest, DataThatChangedSinceTheSubmissionFailsTheJob) {
  helper_.SetHandler([](const v1::HelperRequest&) {
    v1::HelperResponse response;
    v1::SpecViolation& violation = *response.mutable_data()->add_violations();
    violation.set_field("data.fashion_mnist.path");
    violation.set_description("no such folder; put it back");
    response.mutable_data()->set_lasting(true);  // the file's own fault
    return response;
  });
  const std::string id = Submit();
  const v1::Failure failure = WaitForState(id, v1::Job::FAILED).failure();
  EXPECT_EQ(failure.reason(), v1::FailureReason::DATA_ERROR);
  EXPECT_THAT(failure.message(), HasSubstr("data.fashion_mnist.path: no such folder; put it back"));
  EXPECT_TRUE(executor_->launches().empty());
}

// A server that shuts down closes its helper before the controller: that must not fail the jobs that
// are about to start.
TEST_F(ControllerTest, AHelperThatIsClosedByAShutdownCostsNoJob) {
  helper_.SetHandler([](const v1::HelperRequest&) {
    return absl::UnavailableError("the server is shutting down; try again soon");
  });
  const std::string id = Submit();
  WaitUntil("the helper was asked", [&] { return !helper_.requests().empty(); });
  Sync();
  EXPECT_EQ(Get(id).state(), v1::Job::STARTING);
  helper_.SetHandler(nullptr);
  RestartServer({});
  const auto session = Run(id, 2);
  const v1::Attempt first = Get(id).attempts(0);
  EXPECT_EQ(first.failure().reason(), v1::FailureReason::SERVER_LOST);
}

TEST_F(ControllerTest, AWorkerThatNeverSaysHelloIsEnded) {
  const std::string id = Submit();
  WaitForLaunch(id, 1);
  Advance(options_.hello_timeout - absl::Milliseconds(1));
  Sync();
  EXPECT_TRUE(executor_->IsRunning({id, 1}));
  Advance(absl::Milliseconds(1));
  const v1::Failure failure = WaitForState(id, v1::Job::FAILED).failure();
  EXPECT_EQ(failure.reason(), v1::FailureReason::WORKER_START_FAILED);
  EXPECT_THAT(failure.message(), HasSubstr(absl::FormatDuration(options_.hello_timeout)));
  EXPECT_FALSE(executor_->IsRunning({id, 1}));
}

TEST_F(ControllerTest, AProcessThatDoesNotDieKeepsItsCoresButNotItsJob) {
  executor_->IgnoreKills(true);
  const std::string id = Submit({.cores = 3});
  WaitForLaunch(id, 1);
  Advance(options_.hello_timeout);
  WaitUntil("it is killed", [&] { return !executor_->kills().empty(); });
  Advance(options_.exit_grace);
  WaitForState(id, v1::Job::FAILED);
  Sync();
  EXPECT_EQ(controller_->GetLoad().free_cores, 1);
  ExitBySignal({id, 1}, SIGKILL);
  WaitUntil("the cores are free", [&] { return controller_->GetLoad().free_cores == 4; });
}

TEST_F(ControllerTest, TheTimeLimitEndsAnAttempt) {
  const std::string id = Submit({.time_limit = absl::Seconds(100)});
  const auto session = Run(id, 1);
  Advance(absl::Seconds(99));
  Sync();
  EXPECT_TRUE(executor_->IsRunning({id, 1}));
  Advance(absl::Seconds(1));
  WaitUntil("it is killed", [&] { return !executor_->IsRunning({id, 1}); });
  controller_->Disconnected({id, 1}, session.get());
  const v1::Failure failure = WaitForState(id, v1::Job::FAILED).failure();
  EXPECT_EQ(failure.reason(), v1::FailureReason::TIME_LIMIT_EXCEEDED);
  EXPECT_THAT(failure.message(), HasSubstr("1m40s"));
}

TEST_F(ControllerTest, AFinalReportThatIsStoredAfterTheExitCounts) {
  const std::string id = Submit();
  const auto session = Run(id, 1);
  ASSERT_TRUE(executor_->ExitWithCode({id, 1}, 0));
  Sync();
  ASSERT_TRUE(ReportOutcome({id, 1}, 1, v1::Job::SUCCEEDED).ok());
  controller_->Disconnected({id, 1}, session.get());
  WaitUntil("the cores are free", [&] { return controller_->GetLoad().free_cores == 4; });
  EXPECT_EQ(Get(id).state(), v1::Job::SUCCEEDED);
  EXPECT_FALSE(Get(id).attempts(0).has_failure());
}

TEST_F(ControllerTest, OnlyTheCurrentAttemptWithItsSecretMayConnect) {
  const std::string id = Submit({.max_retries = 1});
  const v1::Hello old = HelloOf(WaitForLaunch(id, 1));
  auto session = std::make_shared<FakeSession>();
  v1::Hello hello = old;
  hello.set_secret(std::string(32, 'x'));
  EXPECT_EQ(Connect(hello, session).status().code(), absl::StatusCode::kUnauthenticated);
  hello = old;
  hello.clear_secret();
  EXPECT_EQ(Connect(hello, session).status().code(), absl::StatusCode::kUnauthenticated);
  hello = old;
  hello.set_attempt(2);
  EXPECT_EQ(Connect(hello, session).status().code(), absl::StatusCode::kUnauthenticated);
  hello = old;
  hello.set_job("jobs/00000000000000000000");
  EXPECT_EQ(Connect(hello, session).status().code(), absl::StatusCode::kUnauthenticated);
  hello = old;
  hello.set_protocol_version(2);
  EXPECT_EQ(Connect(hello, session).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Get(id).state(), v1::Job::STARTING);

  ExitBySignal({id, 1}, SIGKILL);
  WaitUntilQueuedAgain(id);
  EXPECT_EQ(Connect(old, session).status().code(), absl::StatusCode::kFailedPrecondition)
      << "between attempts";
  Advance(RetryDelay(Get(id)));
  Run(id, 2);
  EXPECT_EQ(Connect(old, session).status().code(), absl::StatusCode::kFailedPrecondition)
      << "a zombie";
  EXPECT_EQ(ReportOutcome({id, 1}, 1, v1::Job::SUCCEEDED).code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Get(id).state(), v1::Job::RUNNING);
  EXPECT_TRUE(executor_->IsRunning({id, 2}));
}

TEST_F(ControllerTest, AReconnectingWorkerGoesOnAfterItsLastStoredReport) {
  const std::string id = Submit();
  const auto first = Run(id, 1);
  for (int64_t number = 1; number <= 3; ++number) {
    v1::WorkerReport report;
    report.set_number(number);
    ASSERT_TRUE(Report({id, 1}, report).ok());
  }
  const auto second = std::make_shared<FakeSession>();
  const auto welcome = Connect(HelloOf(WaitForLaunch(id, 1)), second);
  ASSERT_TRUE(welcome.ok()) << welcome.status();
  EXPECT_EQ(welcome->last_report(), 3);
  EXPECT_TRUE(first->closed().has_value());
  // The end of the old session is not that of the new one.
  controller_->Disconnected({id, 1}, first.get());
  Sync();
  RequestCancelOf(id);
  WaitUntil("the new session is told", [&] { return second->stops() == 1; });
  EXPECT_EQ(first->stops(), 0);
}

TEST_F(ControllerTest, ANewAttemptStartsFromTheLastCheckpoint) {
  const std::string id = Submit({.max_retries = 3, .initial_weights = "w"});
  Run(id, 1);
  const std::string folder = "jobs/" + id + "/attempt-1/checkpoint-40";
  std::filesystem::create_directories(options_.work_dir + "/" + folder);
  v1::WorkerReport report;
  report.set_number(1);
  report.mutable_checkpoint()->set_step(40);
  report.mutable_checkpoint()->set_folder(folder);
  ASSERT_TRUE(Report({id, 1}, report).ok());
  ExitBySignal({id, 1}, SIGKILL);
  Advance(options_.drain_grace);
  WaitUntilQueuedAgain(id);
  Advance(RetryDelay(Get(id)));
  EXPECT_EQ(WaitForLaunch(id, 2).assignment.resume_from(), options_.work_dir + "/" + folder);
  EXPECT_EQ(Get(id).attempts(1).start_step(), 40);

  // An attempt that brought no checkpoint of its own does not take the old one away ...
  ExitBySignal({id, 2}, SIGKILL);
  WaitUntilQueuedAgain(id);
  Advance(RetryDelay(Get(id)));
  EXPECT_EQ(WaitForLaunch(id, 3).assignment.resume_from(), options_.work_dir + "/" + folder);
  // ... but without its folder it is worth nothing.
  std::filesystem::remove_all(options_.work_dir + "/" + folder);
  ExitBySignal({id, 3}, SIGKILL);
  WaitUntilQueuedAgain(id);
  Advance(RetryDelay(Get(id)));
  EXPECT_EQ(WaitForLaunch(id, 4).assignment.resume_from(), "");
  EXPECT_EQ(Get(id).attempts(3).start_step(), 0);
  // Initial weights are needed, and looked at, only by attempts that begin at the beginning.
  std::vector<std::string> weights;
  for (const v1::HelperRequest& request : helper_.requests()) {
    weights.push_back(request.inspect_data().initial_weights().path());
  }
  EXPECT_THAT(weights, ElementsAre("w", "", "", "w"));
}

// What the files are now only the helper finds out, which may hang on them: no start answers that by
// itself, however often the same set was in order.
TEST_F(ControllerTest, EveryStartAsksTheHelper) {
  const std::string cache = data_dir_ + "/set.nldata";
  std::ofstream(cache) << "decoded";
  helper_.SetHandler([&](const v1::HelperRequest& request) {
    v1::HelperResponse response;
    response.set_id(request.id());
    response.mutable_data()->set_data_cache(cache);
    response.mutable_data()->set_lasting(true);
    return response;
  });
  for (size_t asked = 1; asked <= 3; ++asked) {
    const std::string id = Submit();
    EXPECT_EQ(WaitForLaunch(id, 1).assignment.data_cache(), cache);
    EXPECT_EQ(helper_.requests().size(), asked);
  }
  helper_.Hold();
  const std::string waits = Submit();
  WaitUntil("the helper is asked", [&] { return helper_.requests().size() == 4; });
  EXPECT_THAT(controller_->QueueReasons({waits})[waits], HasSubstr("data set"));
  helper_.Release();
  WaitForLaunch(waits, 1);
}

TEST_F(ControllerTest, TellsForHowLongAWorkerHasBeenSilent) {
  const std::string id = Submit();
  const SubmitRequest launch = WaitForLaunch(id, 1);
  const auto session = std::make_shared<FakeSession>();
  session->set_silence(absl::Seconds(12));
  ASSERT_TRUE(Connect(HelloOf(launch), session).ok());
  EXPECT_EQ(controller_->Silences({id, "unknown"}),
            (std::map<std::string, absl::Duration>{{id, absl::Seconds(12)}}));
  // Its silence goes on while it is not connected.
  controller_->Disconnected({id, 1}, session.get());
  Sync();
  Advance(absl::Seconds(5));
  EXPECT_EQ(controller_->Silences({id})[id], absl::Seconds(17));
}

}  // namespace
}  // namespace normlab::server
