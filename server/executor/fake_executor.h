#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "server/executor/executor.h"

namespace normlab::server {

// An Executor without processes, for tests: they decide what a submission answers, whether an attempt
// waits, and when a "process" ends. Thread-safe; callbacks run on the thread that calls Submit, Exit or
// Signal, or lets answers go.
class FakeExecutor final : public Executor {
 public:
  ExecutorCapabilities capabilities() const override;
  void SetExitCallback(ExitCallback callback) override;
  void Submit(SubmitRequest request, SubmitCallback done) override;
  std::vector<AttemptView> Observe(absl::Span<const AttemptKey> attempts) override;
  std::vector<AttemptView> Reconcile(std::vector<KnownAttempt> attempts) override;
  // kKill ends the process with signal 9 and kStop with 15, unless that is ignored; kCheckpoint is noted
  // only.
  absl::Status Signal(const AttemptKey& attempt, AttemptSignal signal) override;
  absl::Status Health() override;

  // ---- What tests do.

  // Before anybody asks for them.
  void SetCapabilities(ExecutorCapabilities capabilities);
  // Answer of the submissions to come.
  void SetLaunchStatus(absl::Status status);
  // Submissions are answered when ReleaseAnswers is called.
  void HoldAnswers();
  void ReleaseAnswers();
  // Attempts to come wait for `reason` until Run is called for them.
  void SetWaiting(std::string reason);
  void Run(const AttemptKey& attempt);
  // Signal is noted, but the process lives on: it hangs in the kernel.
  void IgnoreKills(bool ignore);
  // Makes a process that an earlier server started one that Reconcile finds; it has run for so long.
  void AddSurvivor(const std::string& identity, absl::Duration age = absl::ZeroDuration());
  // Likewise one whose identity was never stored.
  void AddUnrecorded(const AttemptKey& attempt, const std::string& identity);
  // Whatever runs the attempts does not answer: Observe and Reconcile know nothing.
  void SetHealth(absl::Status health);
  // The process ends; false when there is none. The attempt is filled in.
  bool Exit(const AttemptKey& attempt, ProcessExit exit);
  bool ExitWithCode(const AttemptKey& attempt, int code);

  bool IsRunning(const AttemptKey& attempt) const;
  std::vector<SubmitRequest> launches() const;
  std::vector<AttemptKey> kills() const;
  std::vector<std::pair<AttemptKey, AttemptSignal>> signals() const;
  // Waits until so many submissions were asked for; false after `timeout`.
  bool WaitForLaunches(size_t count, absl::Duration timeout = absl::Seconds(20)) const;

 private:
  using Key = std::pair<std::string, int32_t>;
  struct Process {
    std::string identity;
    std::string waits_for;  // empty: it runs
    absl::Duration age = absl::ZeroDuration();
  };
  struct HeldAnswer {
    SubmitCallback done;
    absl::StatusOr<std::string> answer;
  };
  AttemptView View(const AttemptKey& attempt) const ABSL_SHARED_LOCKS_REQUIRED(mu_);

  mutable absl::Mutex mu_;
  ExecutorCapabilities capabilities_ ABSL_GUARDED_BY(mu_);
  absl::Status launch_status_ ABSL_GUARDED_BY(mu_);
  absl::Status health_ ABSL_GUARDED_BY(mu_);
  std::string waits_for_ ABSL_GUARDED_BY(mu_);
  bool ignore_kills_ ABSL_GUARDED_BY(mu_) = false;
  bool hold_answers_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<HeldAnswer> held_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, absl::Duration> survivors_ ABSL_GUARDED_BY(mu_);
  std::map<Key, std::string> unrecorded_ ABSL_GUARDED_BY(mu_);
  std::map<Key, Process> running_ ABSL_GUARDED_BY(mu_);
  std::vector<SubmitRequest> launches_ ABSL_GUARDED_BY(mu_);
  std::vector<std::pair<AttemptKey, AttemptSignal>> signals_ ABSL_GUARDED_BY(mu_);

  // Held while the callback runs, so that SetExitCallback can promise that the old one is done.
  // Recursive calls (a callback that signals) are not for tests.
  absl::Mutex callback_mu_ ABSL_ACQUIRED_BEFORE(mu_);
  ExitCallback callback_ ABSL_GUARDED_BY(callback_mu_);
};

}  // namespace normlab::server
