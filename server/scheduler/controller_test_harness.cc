#include "server/scheduler/controller_test_harness.h"

#include <stdlib.h>

#include <filesystem>
#include <future>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "common/ids.h"
#include "server/domain/names.h"
#include "server/domain/states.h"
#include "server/domain/transitions.h"

namespace normlab::server {
namespace {

// Far more than anything here takes; only a bug waits so long.
constexpr absl::Duration kDeadline = absl::Seconds(20);

}  // namespace

void ControllerTest::SetUp() {
  std::string pattern = absl::StrCat(::testing::TempDir(), "/controller.XXXXXX");
  ASSERT_NE(mkdtemp(pattern.data()), nullptr);
  data_dir_ = pattern;
  options_.cores = {0, 1, 2, 3};
  options_.memory_bytes = 1000;
  options_.work_dir = data_dir_ + "/work";
  std::filesystem::create_directories(options_.work_dir);
  options_.worker_target = "unix:/run/worker.sock";
  options_.data_roots = {"/data"};
  options_.max_sleep = absl::Milliseconds(1);
  options_.clock = &clock_;
  executor_ = std::make_unique<FakeExecutor>();
  StartController();
}

void ControllerTest::TearDown() {
  controller_.reset();
  if (store_ != nullptr) {
    store_->Close();
  }
  store_.reset();
  std::filesystem::remove_all(data_dir_);
}

void ControllerTest::StartController() {
  if (store_ == nullptr) {
    absl::StatusOr<std::unique_ptr<Store>> store =
        Store::Open({.data_dir = data_dir_, .work_dir = options_.work_dir, .clock = &clock_});
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }
  StartOptions start = start_options_;
  start.on_change = [this](const absl::Status& starts) {
    absl::MutexLock lock(&starts_mu_);
    starts_ = starts;
  };
  controller_ = CreateController(options_, std::move(start), *store_, *executor_, helper_, *told_);
  const absl::Status started = controller_->Start();
  ASSERT_TRUE(started.ok()) << started;
}

void ControllerTest::RestartServer(const std::vector<std::string>& survivors, absl::Duration age) {
  controller_->Stop();
  controller_.reset();
  store_->Close();
  store_.reset();
  executor_ = std::make_unique<FakeExecutor>();
  for (const std::string& identity : survivors) {
    executor_->AddSurvivor(identity, age);
  }
  StartController();
}

std::string ControllerTest::Submit(const JobWishes& wishes) {
  const std::string id = common::NewId(clock_.Now());
  v1::Job job;
  job.set_name(JobName(id));
  job.set_owner("local");
  v1::JobSpec& spec = *job.mutable_spec();
  spec.mutable_model()->mutable_mlp();
  spec.mutable_data()->mutable_fashion_mnist()->set_path("fashion_mnist");
  spec.set_max_retries(wishes.max_retries);
  spec.set_threads(wishes.cores);
  if (wishes.time_limit.has_value()) {
    spec.mutable_time_limit()->set_seconds(absl::ToInt64Seconds(*wishes.time_limit));
  }
  if (!wishes.initial_weights.empty()) {
    spec.mutable_initial_weights()->set_path(wishes.initial_weights);
  }
  *job.mutable_resolved_spec() = spec;
  job.mutable_estimate()->set_cores(wishes.cores);
  job.mutable_estimate()->set_memory_bytes(wishes.memory_bytes);
  std::promise<absl::StatusOr<Store::CreateResult>> promise;
  store_->CreateJob(job, "", "", [&promise](absl::StatusOr<Store::CreateResult> result) {
    promise.set_value(std::move(result));
  });
  const absl::StatusOr<Store::CreateResult> result = promise.get_future().get();
  EXPECT_TRUE(result.ok()) << result.status();
  if (result.ok()) {
    controller_->JobChanged(result->job);
  }
  return id;
}

v1::Job ControllerTest::Get(const std::string& id) {
  const absl::StatusOr<v1::Job> job = store_->GetJob(id);
  EXPECT_TRUE(job.ok()) << job.status();
  return job.value_or(v1::Job());
}

v1::Job ControllerTest::WaitForState(const std::string& id, v1::Job::State state) {
  WaitUntil(absl::StrCat(id, " is ", StateName(state)), [&] { return Get(id).state() == state; });
  return Get(id);
}

void ControllerTest::WaitUntilQueuedAgain(const std::string& id) {
  WaitForState(id, v1::Job::QUEUED);
  WaitUntil("the controller has it in its queue",
            [&] { return controller_->GetLoad().queued > 0; });
}

void ControllerTest::WaitUntil(const std::string& what, const std::function<bool()>& condition) {
  const absl::Time deadline = absl::Now() + kDeadline;
  while (!condition()) {
    if (absl::Now() > deadline) {
      FAIL() << "waited in vain until " << what;
    }
    absl::SleepFor(
        absl::Milliseconds(1));  // a pause between looks, not a guess of how long it takes
  }
}

void ControllerTest::Sync() {
  // A hello of nobody is answered in its turn.
  EXPECT_FALSE(Connect(v1::Hello(), nullptr).ok());
}

void ControllerTest::Advance(absl::Duration by) {
  Sync();
  clock_.Advance(by);
}

void ControllerTest::RequestCancelOf(const std::string& id) {
  Ask(id, &RequestCancel);
}

v1::Job ControllerTest::Ask(const std::string& id, Transition transition) {
  const absl::StatusOr<v1::Job> job = store_->UpdateJobAndWait(
      id, [this, transition](v1::Job& stored, std::vector<v1::Segment>& records) {
        return transition(stored, clock_.Now(), records);
      });
  EXPECT_TRUE(job.ok()) << job.status();
  if (!job.ok()) {
    return v1::Job();
  }
  controller_->JobChanged(*job);
  return *job;
}

v1::Job ControllerTest::Pause(const std::string& id) {
  return Ask(id, &RequestPause);
}

v1::Job ControllerTest::Resume(const std::string& id) {
  return Ask(id, &RequestResume);
}

SubmitRequest ControllerTest::WaitForLaunch(const std::string& id, int32_t attempt) {
  SubmitRequest found;
  WaitUntil(absl::StrCat(id, " attempt ", attempt, " is launched"), [&] {
    // The last one: those before may have been in vain.
    bool there = false;
    for (const SubmitRequest& launch : executor_->launches()) {
      if (launch.attempt.job_id == id && launch.attempt.number == attempt) {
        found = launch;
        there = true;
      }
    }
    return there;
  });
  return found;
}

v1::Hello ControllerTest::HelloOf(const SubmitRequest& launch) const {
  v1::Hello hello;
  hello.set_protocol_version(1);
  hello.set_job(launch.assignment.job());
  hello.set_attempt(launch.assignment.attempt());
  hello.set_secret(launch.assignment.secret());
  return hello;
}

absl::StatusOr<v1::Welcome> ControllerTest::Connect(const v1::Hello& hello,
                                                    std::shared_ptr<FakeSession> session) {
  std::promise<absl::StatusOr<v1::Welcome>> promise;
  controller_->Connected(
      hello, std::move(session),
      [&promise](absl::StatusOr<v1::Welcome> welcome) { promise.set_value(std::move(welcome)); });
  return promise.get_future().get();
}

std::shared_ptr<FakeSession> ControllerTest::Run(const std::string& id, int32_t attempt) {
  auto session = std::make_shared<FakeSession>();
  const absl::StatusOr<v1::Welcome> welcome = Connect(HelloOf(WaitForLaunch(id, attempt)), session);
  EXPECT_TRUE(welcome.ok()) << welcome.status();
  EXPECT_EQ(Get(id).state(), v1::Job::RUNNING);
  return session;
}

absl::Status ControllerTest::Report(const AttemptKey& attempt, v1::WorkerReport report) {
  const bool has_outcome = report.has_outcome();
  std::promise<absl::StatusOr<Store::AppendResult>> promise;
  store_->AppendReport(attempt, std::move(report),
                       [&promise](absl::StatusOr<Store::AppendResult> result) {
                         promise.set_value(std::move(result));
                       });
  const absl::StatusOr<Store::AppendResult> result = promise.get_future().get();
  if (result.ok() && has_outcome) {
    controller_->AttemptFinished(result->job);
  }
  return result.status();
}

absl::Status ControllerTest::ReportOutcome(const AttemptKey& attempt,
                                           int64_t number,
                                           v1::Job::State state) {
  v1::WorkerReport report;
  report.set_number(number);
  report.mutable_outcome()->set_state(state);
  if (state == v1::Job::SUCCEEDED) {
    report.mutable_outcome()->mutable_result()->set_steps(10);
  }
  if (state == v1::Job::FAILED) {
    report.mutable_outcome()->mutable_failure()->set_reason(v1::FailureReason::CHECKPOINT_ERROR);
    report.mutable_outcome()->mutable_failure()->set_message("the disk is full; make room");
  }
  return Report(attempt, std::move(report));
}

void ControllerTest::ExitBySignal(const AttemptKey& attempt, int signal) {
  ProcessExit exit;
  exit.cause = ExitCause::kSignalled;
  exit.code = signal;
  exit.description = absl::StrCat("signal ", signal);
  ASSERT_TRUE(executor_->Exit(attempt, exit));
}

}  // namespace normlab::server
