#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

#include "server/store/store.h"

namespace normlab::server {

struct QueueLimits {
  int64_t jobs = 10'000;       // QUEUED at a time; 0: no limit
  int64_t jobs_per_owner = 0;  // likewise
};

// Bounds the queue: a creation reserves its place before the store has it, so that however many come
// at once there are never more jobs in the queue than allowed. A job that is queued again (a retry, a
// resume) needs no place. Thread-safe. The store must outlive it.
class QueueGate {
 public:
  QueueGate(QueueLimits limits, Store& store) : limits_(limits), store_(store) {}

  // RESOURCE_EXHAUSTED with RetryInfo (QUEUE_FULL, OWNER_QUEUE_FULL) when there is no place for so
  // many jobs.
  absl::Status Reserve(const std::string& owner, int64_t jobs = 1) ABSL_LOCKS_EXCLUDED(mu_);
  // The creation is over: the store counts the jobs, or there are none. After the store's answer.
  void Release(const std::string& owner, int64_t jobs = 1) ABSL_LOCKS_EXCLUDED(mu_);

  const QueueLimits& limits() const { return limits_; }

 private:
  const QueueLimits limits_;
  Store& store_;
  absl::Mutex mu_;
  int64_t reserved_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<std::string, int64_t> reserved_by_ ABSL_GUARDED_BY(mu_);
};

}  // namespace normlab::server
