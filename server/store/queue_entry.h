#pragma once

#include <cstdint>
#include <string>

#include "absl/time/time.h"

#include "normlab/v1/job.pb.h"

namespace normlab::server {

// What the scheduler has to know of a job that is QUEUED: small, and kept in columns of its own, so
// that a queue of large specs is taken up again without reading one of them. A value.
struct QueueEntry {
  std::string id;
  std::string owner;
  int32_t priority = 0;
  int cores = 1;  // at least 1
  int64_t memory_bytes = 0;
  absl::Time create_time;
  absl::Time queue_time;  // when it came into the queue last; wall clock
  absl::Duration waited;  // in the queue, before that
  // End of the last attempt when that failed by its own fault, so that the job has to wait before
  // the next one; else the infinite past.
  absl::Time last_failure = absl::InfinitePast();
  int64_t bytes = 0;  // that the job's spec takes as stored, resolved and as submitted
};

// Of a job with a valid name, without `bytes`. Pure.
QueueEntry QueueEntryOf(const std::string& job_id, const v1::Job& job);

}  // namespace normlab::server
