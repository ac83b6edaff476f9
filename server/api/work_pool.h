#pragma once

#include <cstddef>
#include <deque>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"

namespace normlab::server {

// Threads on which handlers do what a gRPC callback must not: read the disk, build graphs, wait.
// Tasks start in the order in which they came. Thread-safe.
class WorkPool {
 public:
  using Task = absl::AnyInvocable<void() &&>;

  // `max_waiting`: how many tasks of TryPost may wait for a thread.
  WorkPool(int threads, size_t max_waiting);
  // Runs what was posted, then ends the threads. Nothing may be posted from outside of tasks any
  // more.
  ~WorkPool();
  WorkPool(const WorkPool&) = delete;
  WorkPool& operator=(const WorkPool&) = delete;

  // For new work: false, without having taken it, when too much is waiting already.
  [[nodiscard]] bool TryPost(Task task);
  // For going on with work that was admitted before, whose amount is therefore bounded.
  void Post(Task task);

 private:
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return closed_ || !tasks_.empty(); }
  void Work();

  const size_t max_waiting_;
  absl::Mutex mu_;
  std::deque<Task> tasks_ ABSL_GUARDED_BY(mu_);
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace normlab::server
