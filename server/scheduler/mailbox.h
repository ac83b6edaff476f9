#pragma once

#include <deque>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "common/steady_wait.h"

namespace normlab::server {

// Work for one thread, from any. Senders hold it by shared_ptr, so a late answer finds it closed
// instead of gone. Thread-safe.
class Mailbox {
 public:
  using Task = absl::AnyInvocable<void() &&>;

  // False when it is closed; the task is destroyed then.
  bool Post(Task task) {
    absl::MutexLock lock(&mu_);
    if (closed_) {
      return false;
    }
    tasks_.push_back(std::move(task));
    posted_.NotifyAll();
    return true;
  }

  // Waits until there are tasks, at most `timeout`; takes all of them.
  std::deque<Task> Take(absl::Duration timeout) {
    absl::MutexLock lock(&mu_);
    posted_.WaitFor(mu_, timeout,
                    [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return !tasks_.empty(); });
    return std::exchange(tasks_, {});
  }

  // Closes it if it is empty: what was posted before is never lost. False: take and run the rest
  // first.
  bool CloseIfEmpty() {
    absl::MutexLock lock(&mu_);
    closed_ = tasks_.empty();
    return closed_;
  }

 private:
  absl::Mutex mu_;
  common::SteadyWait posted_;
  std::deque<Task> tasks_ ABSL_GUARDED_BY(mu_);
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace normlab::server
