#include "server/executor/fake_executor.h"

#include <signal.h>

#include "absl/strings/str_cat.h"

namespace normlab::server {

void FakeExecutor::SetExitCallback(ExitCallback callback) {
  absl::MutexLock lock(&mu_);
  callback_ = std::move(callback);
}

absl::StatusOr<std::string> FakeExecutor::Launch(const LaunchRequest& request) {
  absl::MutexLock lock(&mu_);
  launches_.push_back(request);
  if (!launch_status_.ok()) {
    return launch_status_;
  }
  running_[{request.attempt.job_id, request.attempt.number}] = true;
  return absl::StrCat("fake/", request.attempt.job_id, "/", request.attempt.number);
}

absl::StatusOr<absl::Duration> FakeExecutor::Adopt(const AttemptKey& attempt,
                                                   const std::string& identity) {
  absl::MutexLock lock(&mu_);
  const auto found = survivors_.find(identity);
  if (found == survivors_.end()) {
    return absl::NotFoundError(absl::StrCat(identity, " is gone"));
  }
  const absl::Duration age = found->second;
  survivors_.erase(found);
  running_[{attempt.job_id, attempt.number}] = true;
  return age;
}

absl::Status FakeExecutor::Kill(const AttemptKey& attempt) {
  {
    absl::MutexLock lock(&mu_);
    kills_.push_back(attempt);
    if (ignore_kills_) {
      return absl::OkStatus();
    }
  }
  ProcessExit exit;
  exit.by_signal = true;
  exit.code = SIGKILL;
  exit.description = "signal 9 (Killed)";
  Exit(attempt, exit);
  return absl::OkStatus();
}

void FakeExecutor::SetLaunchStatus(absl::Status status) {
  absl::MutexLock lock(&mu_);
  launch_status_ = std::move(status);
}

void FakeExecutor::IgnoreKills(bool ignore) {
  absl::MutexLock lock(&mu_);
  ignore_kills_ = ignore;
}

void FakeExecutor::AddSurvivor(const std::string& identity, absl::Duration age) {
  absl::MutexLock lock(&mu_);
  survivors_[identity] = age;
}

bool FakeExecutor::Exit(const AttemptKey& attempt, ProcessExit exit) {
  exit.attempt = attempt;
  ExitCallback callback;
  {
    absl::MutexLock lock(&mu_);
    if (running_.erase({attempt.job_id, attempt.number}) == 0) {
      return false;
    }
    callback = callback_;
  }
  if (callback) {
    callback(exit);
  }
  return true;
}

bool FakeExecutor::ExitWithCode(const AttemptKey& attempt, int code) {
  ProcessExit exit;
  exit.code = code;
  exit.description = absl::StrCat("exit code ", code);
  return Exit(attempt, exit);
}

bool FakeExecutor::IsRunning(const AttemptKey& attempt) const {
  absl::MutexLock lock(&mu_);
  return running_.count({attempt.job_id, attempt.number}) > 0;
}

std::vector<LaunchRequest> FakeExecutor::launches() const {
  absl::MutexLock lock(&mu_);
  return launches_;
}

std::vector<AttemptKey> FakeExecutor::kills() const {
  absl::MutexLock lock(&mu_);
  return kills_;
}

bool FakeExecutor::WaitForLaunches(size_t count, absl::Duration timeout) const {
  absl::MutexLock lock(&mu_);
  const auto enough = [this, count]()
                          ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return launches_.size() >= count; };
  return mu_.AwaitWithTimeout(absl::Condition(&enough), timeout);
}

}  // namespace normlab::server
