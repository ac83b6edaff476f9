#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "gtest/gtest.h"

#include "common/clock.h"
#include "server/executor/fake_executor.h"
#include "server/executor/fake_helper.h"
#include "server/scheduler/controller.h"
#include "server/scheduler/start_options.h"
#include "server/store/store.h"

namespace normlab::server {

// A connection of a worker, as far as the controller sees it. Thread-safe.
class FakeSession final : public WorkerSession {
 public:
  void Stop(const v1::StopRequest& request) override {
    absl::MutexLock lock(&mu_);
    stops_.push_back(request);
  }
  void Close(absl::Status reason) override {
    absl::MutexLock lock(&mu_);
    closed_ = std::move(reason);
  }
  int stops() const {
    absl::MutexLock lock(&mu_);
    return static_cast<int>(stops_.size());
  }
  v1::StopRequest last_stop() const {
    absl::MutexLock lock(&mu_);
    return stops_.empty() ? v1::StopRequest() : stops_.back();
  }
  absl::Duration Silence() override {
    absl::MutexLock lock(&mu_);
    return silence_;
  }
  void set_silence(absl::Duration silence) {
    absl::MutexLock lock(&mu_);
    silence_ = silence;
  }
  std::optional<absl::Status> closed() const {
    absl::MutexLock lock(&mu_);
    return closed_;
  }

 private:
  mutable absl::Mutex mu_;
  std::vector<v1::StopRequest> stops_ ABSL_GUARDED_BY(mu_);
  absl::Duration silence_ ABSL_GUARDED_BY(mu_);
  std::optional<absl::Status> closed_ ABSL_GUARDED_BY(mu_);
};

struct JobWishes {
  int cores = 1;
  int64_t memory_bytes = 100;
  int max_retries = 0;
  std::optional<absl::Duration> time_limit;
  std::string initial_weights;  // path; empty: none
};

// A controller over a real store, with processes, helper, sessions and time played by the test.
// Conditions are waited for with a deadline; time stands still unless advanced.
class ControllerTest : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  // Ends the controller and the store, and starts both anew, as a new server process would.
  // `executor_` is a new one too: it knows no processes but those that are made survivors, which have
  // run for `age`.
  void RestartServer(const std::vector<std::string>& survivors,
                     absl::Duration age = absl::ZeroDuration());
  void StartController();

  std::string Submit(const JobWishes& wishes = {});
  v1::Job Get(const std::string& id);
  // Fails the test when the job does not get there.
  v1::Job WaitForState(const std::string& id, v1::Job::State state);
  // Returns when the controller, too, knows that the job is queued again.
  void WaitUntilQueuedAgain(const std::string& id);
  void WaitUntil(const std::string& what, const std::function<bool()>& condition);
  // Returns when the controller has handled everything that was told before.
  void Sync();
  // Moves the clock once the controller has seen what came before.
  void Advance(absl::Duration by);
  void RequestCancelOf(const std::string& id);
  // What a handler does with a wish; the job after it.
  using Transition = absl::Status (*)(v1::Job&, absl::Time, std::vector<v1::Segment>&);
  v1::Job Ask(const std::string& id, Transition transition);
  v1::Job Pause(const std::string& id);
  v1::Job Resume(const std::string& id);

  // The launch of an attempt, once it was asked for.
  SubmitRequest WaitForLaunch(const std::string& id, int32_t attempt);
  v1::Hello HelloOf(const SubmitRequest& launch) const;
  absl::StatusOr<v1::Welcome> Connect(const v1::Hello& hello, std::shared_ptr<FakeSession> session);
  // Launched, connected and RUNNING.
  std::shared_ptr<FakeSession> Run(const std::string& id, int32_t attempt);
  // What the worker service does with a report.
  absl::Status Report(const AttemptKey& attempt, v1::WorkerReport report);
  absl::Status ReportOutcome(const AttemptKey& attempt, int64_t number, v1::Job::State state);
  void ExitBySignal(const AttemptKey& attempt, int signal);

  std::string data_dir_;
  common::FakeClock clock_;
  ControllerOptions options_;
  StartOptions start_options_;
  // What the controller told last of what keeps jobs from being started.
  absl::Status Starts() {
    absl::MutexLock lock(&starts_mu_);
    return starts_;
  }
  std::unique_ptr<Store> store_;
  std::unique_ptr<FakeExecutor> executor_;
  FakeHelper helper_;
  Observer* told_ = &Observer::None();  // what the controllers to come tell
  std::unique_ptr<Controller> controller_;

 private:
  absl::Mutex starts_mu_;
  absl::Status starts_ ABSL_GUARDED_BY(starts_mu_);
};

}  // namespace normlab::server
