#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "server/store/store.h"

namespace normlab::server {

struct QueueLimits {
  int64_t jobs = 10'000;       // QUEUED at a time; 0: no limit
  int64_t jobs_per_owner = 0;  // QUEUED or PAUSED; likewise
  // That those take in the database, with their specs; 0: no limit.
  int64_t bytes_per_owner = int64_t{512} << 20;
};

// Bounds the queue: a creation reserves its place before the store has it, so that however many come
// at once there are never more jobs in the queue than allowed. A paused job keeps its owner's place,
// and needs one of the queue's to be resumed; one that is tried again needs none. Thread-safe. The
// store must outlive it.
class QueueGate {
 public:
  QueueGate(QueueLimits limits, Store& store) : limits_(limits), store_(store) {}

  // RESOURCE_EXHAUSTED with RetryInfo (QUEUE_FULL, OWNER_QUEUE_FULL) when there is no place for so
  // many jobs, whose specs take so many bytes. Blocks for some milliseconds at times, for disk.
  absl::Status Reserve(const std::string& owner, int64_t jobs, int64_t bytes)
      ABSL_LOCKS_EXCLUDED(mu_);
  // The creation is over: the store counts the jobs, or there are none. After the store's answer,
  // with the same numbers.
  void Release(const std::string& owner, int64_t jobs, int64_t bytes) ABSL_LOCKS_EXCLUDED(mu_);

  // As Reserve, of a paused job that is to be queued again: without reserving, as so few come at once.
  absl::Status CheckResume() ABSL_LOCKS_EXCLUDED(mu_);

  // What a job is going to take in the database, with its spec, resolved and as submitted.
  static int64_t SpecBytes(const v1::Job& job);

  const QueueLimits& limits() const { return limits_; }

 private:
  // Summing up ten thousand jobs for each creation would cost more than the creation.
  static constexpr absl::Duration kBytesKeptFor = absl::Seconds(1);

  struct Bytes {
    int64_t stored = 0;                                // at `as_of`, and what was let in since
    absl::Duration as_of = -absl::InfiniteDuration();  // monotonic
    int64_t reserved = 0;                              // let in, by creations that are not over
  };
  absl::Status ReserveBytes(const std::string& owner, int64_t bytes) ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status RoomFor(int64_t jobs) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status ReserveJobs(const std::string& owner, int64_t jobs) ABSL_LOCKS_EXCLUDED(mu_);

  const QueueLimits limits_;
  Store& store_;
  absl::Mutex mu_;
  int64_t reserved_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<std::string, int64_t> reserved_by_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, Bytes> bytes_by_ ABSL_GUARDED_BY(mu_);
};

}  // namespace normlab::server
