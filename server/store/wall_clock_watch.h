#pragma once

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "common/clock.h"

namespace normlab::server {

// Notices when the machine's time of day is set: by more than an hour, compared with the clock that nobody
// sets, since this was made. Jobs that seem old then may be of today. Thread-safe.
class WallClockWatch {
 public:
  // `clock` must outlive it.
  explicit WallClockWatch(const common::Clock& clock);

  // Whether the time of day can be believed. Says in the log when that changes, and what to do.
  bool IsTrusted() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  // How far the wall clock is ahead of the other one.
  absl::Duration Lead() const;

  const common::Clock& clock_;
  const absl::Duration lead_at_start_;
  absl::Mutex mu_;
  bool trusted_ ABSL_GUARDED_BY(mu_) = true;
};

}  // namespace normlab::server
