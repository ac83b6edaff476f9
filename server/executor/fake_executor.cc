#include "server/executor/fake_executor.h"

#include <signal.h>

#include "absl/strings/str_cat.h"

namespace normlab::server {

ExecutorCapabilities FakeExecutor::capabilities() const {
  absl::MutexLock lock(&mu_);
  return capabilities_;
}

void FakeExecutor::SetExitCallback(ExitCallback callback) {
  absl::MutexLock lock(&callback_mu_);
  callback_ = std::move(callback);
}

void FakeExecutor::Submit(SubmitRequest request, SubmitCallback done) {
  absl::StatusOr<std::string> answer;
  {
    absl::MutexLock lock(&mu_);
    launches_.push_back(request);
    const Key key = {request.attempt.job_id, request.attempt.number};
    if (const auto known = running_.find(key); known != running_.end()) {
      answer = known->second.identity;
    } else if (!launch_status_.ok()) {
      answer = launch_status_;
    } else {
      answer = absl::StrCat("fake/", request.attempt.job_id, "/", request.attempt.number);
      running_[key] = {*answer, waits_for_};
    }
    if (hold_answers_) {
      held_.push_back({std::move(done), std::move(answer)});
      return;
    }
  }
  std::move(done)(std::move(answer));
}

AttemptView FakeExecutor::View(const AttemptKey& attempt) const {
  AttemptView view;
  view.attempt = attempt;
  const auto found = running_.find({attempt.job_id, attempt.number});
  if (found == running_.end()) {
    view.reason = "it is gone";
    return view;
  }
  view.identity = found->second.identity;
  if (!health_.ok()) {
    view.state = AttemptView::State::kUnknown;
    view.reason = std::string(health_.message());
  } else if (!found->second.waits_for.empty()) {
    view.state = AttemptView::State::kWaiting;
    view.reason = found->second.waits_for;
  } else {
    view.state = AttemptView::State::kRunning;
    view.running_for = found->second.age;
  }
  return view;
}

std::vector<AttemptView> FakeExecutor::Observe(absl::Span<const AttemptKey> attempts) {
  absl::MutexLock lock(&mu_);
  std::vector<AttemptView> views;
  for (const AttemptKey& attempt : attempts) {
    views.push_back(View(attempt));
  }
  return views;
}

std::vector<AttemptView> FakeExecutor::Reconcile(std::vector<KnownAttempt> attempts) {
  absl::MutexLock lock(&mu_);
  std::vector<AttemptView> views;
  for (const KnownAttempt& known : attempts) {
    const Key key = {known.attempt.job_id, known.attempt.number};
    std::string identity = known.identity;
    if (const auto found = unrecorded_.find(key);
        identity.empty() && found != unrecorded_.end() && capabilities_.finds_unrecorded) {
      identity = found->second;
      survivors_.emplace(identity, absl::ZeroDuration());
    }
    const auto survivor = survivors_.find(identity);
    if (survivor != survivors_.end()) {
      running_[key] = {identity, waits_for_, survivor->second};
      survivors_.erase(survivor);
    } else if (!health_.ok() && !identity.empty()) {
      running_[key] = {identity, waits_for_};
    }
    views.push_back(View(known.attempt));
    if (views.back().state == AttemptView::State::kGone) {
      views.back().reason = absl::StrCat(identity.empty() ? "it had not been started" : identity,
                                         identity.empty() ? "" : " is gone");
    }
  }
  return views;
}

absl::Status FakeExecutor::Signal(const AttemptKey& attempt, AttemptSignal signal) {
  bool waits = false;
  {
    absl::MutexLock lock(&mu_);
    signals_.emplace_back(attempt, signal);
    if (ignore_kills_) {
      return absl::OkStatus();
    }
    const auto found = running_.find({attempt.job_id, attempt.number});
    waits = found != running_.end() && !found->second.waits_for.empty();
  }
  if (signal == AttemptSignal::kCheckpoint && !waits) {
    return absl::OkStatus();
  }
  ProcessExit exit;
  exit.cause = ExitCause::kSignalled;
  exit.code = signal == AttemptSignal::kStop ? SIGTERM : SIGKILL;
  exit.description =
      signal == AttemptSignal::kStop ? "signal 15 (Terminated)" : "signal 9 (Killed)";
  Exit(attempt, exit);
  return absl::OkStatus();
}

absl::Status FakeExecutor::Health() {
  absl::MutexLock lock(&mu_);
  return health_;
}

void FakeExecutor::SetCapabilities(ExecutorCapabilities capabilities) {
  absl::MutexLock lock(&mu_);
  capabilities_ = std::move(capabilities);
}

void FakeExecutor::SetLaunchStatus(absl::Status status) {
  absl::MutexLock lock(&mu_);
  launch_status_ = std::move(status);
}

void FakeExecutor::HoldAnswers() {
  absl::MutexLock lock(&mu_);
  hold_answers_ = true;
}

void FakeExecutor::ReleaseAnswers() {
  std::vector<HeldAnswer> held;
  {
    absl::MutexLock lock(&mu_);
    hold_answers_ = false;
    held.swap(held_);
  }
  for (HeldAnswer& one : held) {
    std::move(one.done)(std::move(one.answer));
  }
}

void FakeExecutor::SetWaiting(std::string reason) {
  absl::MutexLock lock(&mu_);
  waits_for_ = std::move(reason);
}

void FakeExecutor::Run(const AttemptKey& attempt) {
  absl::MutexLock lock(&mu_);
  if (const auto found = running_.find({attempt.job_id, attempt.number}); found != running_.end()) {
    found->second.waits_for.clear();
  }
}

void FakeExecutor::IgnoreKills(bool ignore) {
  absl::MutexLock lock(&mu_);
  ignore_kills_ = ignore;
}

void FakeExecutor::AddSurvivor(const std::string& identity, absl::Duration age) {
  absl::MutexLock lock(&mu_);
  survivors_[identity] = age;
}

void FakeExecutor::AddUnrecorded(const AttemptKey& attempt, const std::string& identity) {
  absl::MutexLock lock(&mu_);
  unrecorded_[{attempt.job_id, attempt.number}] = identity;
}

void FakeExecutor::SetHealth(absl::Status health) {
  absl::MutexLock lock(&mu_);
  health_ = std::move(health);
}

bool FakeExecutor::Exit(const AttemptKey& attempt, ProcessExit exit) {
  exit.attempt = attempt;
  absl::MutexLock callback_lock(&callback_mu_);
  {
    absl::MutexLock lock(&mu_);
    if (running_.erase({attempt.job_id, attempt.number}) == 0) {
      return false;
    }
  }
  if (callback_) {
    callback_(exit);
  }
  return true;
}

bool FakeExecutor::ExitWithCode(const AttemptKey& attempt, int code) {
  ProcessExit exit;
  exit.cause = ExitCause::kExited;
  exit.code = code;
  exit.description = absl::StrCat("exit code ", code);
  return Exit(attempt, exit);
}

bool FakeExecutor::IsRunning(const AttemptKey& attempt) const {
  absl::MutexLock lock(&mu_);
  return running_.count({attempt.job_id, attempt.number}) > 0;
}

std::vector<SubmitRequest> FakeExecutor::launches() const {
  absl::MutexLock lock(&mu_);
  return launches_;
}

std::vector<AttemptKey> FakeExecutor::kills() const {
  absl::MutexLock lock(&mu_);
  std::vector<AttemptKey> kills;
  for (const auto& [attempt, signal] : signals_) {
    if (signal == AttemptSignal::kKill) {
      kills.push_back(attempt);
    }
  }
  return kills;
}

std::vector<std::pair<AttemptKey, AttemptSignal>> FakeExecutor::signals() const {
  absl::MutexLock lock(&mu_);
  return signals_;
}

bool FakeExecutor::WaitForLaunches(size_t count, absl::Duration timeout) const {
  absl::MutexLock lock(&mu_);
  const auto enough = [this, count]()
                          ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return launches_.size() >= count; };
  return mu_.AwaitWithTimeout(absl::Condition(&enough), timeout);
}

}  // namespace normlab::server
