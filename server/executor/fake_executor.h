#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "server/executor/executor.h"

namespace normlab::server {

// An Executor without processes, for tests: they decide what a launch answers and when a "process"
// ends. Thread-safe; the exit callback runs on the thread that calls Exit or Kill.
class FakeExecutor final : public Executor {
 public:
  void SetExitCallback(ExitCallback callback) override;
  absl::StatusOr<std::string> Launch(const LaunchRequest& request) override;
  absl::StatusOr<absl::Duration> Adopt(const AttemptKey& attempt,
                                       const std::string& identity) override;
  // Ends the process with signal 9, unless kills are ignored.
  absl::Status Kill(const AttemptKey& attempt) override;

  // ---- What tests do.

  // Answer of the launches to come.
  void SetLaunchStatus(absl::Status status);
  // Kill is noted, but the process lives on: it hangs in the kernel.
  void IgnoreKills(bool ignore);
  // Makes a process that an earlier server started adoptable; it has run for so long.
  void AddSurvivor(const std::string& identity, absl::Duration age = absl::ZeroDuration());
  // The process ends; false when there is none. The attempt is filled in.
  bool Exit(const AttemptKey& attempt, ProcessExit exit);
  bool ExitWithCode(const AttemptKey& attempt, int code);

  bool IsRunning(const AttemptKey& attempt) const;
  std::vector<LaunchRequest> launches() const;
  std::vector<AttemptKey> kills() const;
  // Waits until so many launches were asked for; false after `timeout`.
  bool WaitForLaunches(size_t count, absl::Duration timeout = absl::Seconds(20)) const;

 private:
  using Key = std::pair<std::string, int32_t>;

  mutable absl::Mutex mu_;
  ExitCallback callback_ ABSL_GUARDED_BY(mu_);
  absl::Status launch_status_ ABSL_GUARDED_BY(mu_);
  bool ignore_kills_ ABSL_GUARDED_BY(mu_) = false;
  std::map<std::string, absl::Duration> survivors_ ABSL_GUARDED_BY(mu_);
  std::map<Key, bool> running_ ABSL_GUARDED_BY(mu_);
  std::vector<LaunchRequest> launches_ ABSL_GUARDED_BY(mu_);
  std::vector<AttemptKey> kills_ ABSL_GUARDED_BY(mu_);
};

}  // namespace normlab::server
