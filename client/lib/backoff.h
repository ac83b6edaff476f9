#pragma once

#include <stop_token>

#include "absl/random/random.h"
#include "absl/status/status.h"
#include "absl/time/time.h"

namespace normlab::client {

// How calls are repeated.
struct RetryOptions {
  absl::Duration initial_delay = absl::Milliseconds(100);
  absl::Duration max_delay = absl::Seconds(1);
  // How long to go on after the first failure. Zero: never repeat.
  absl::Duration give_up_after = absl::Seconds(3);
};

// Sleeps until `stop` is requested or `duration` is over; false when it was stopped. Thread-safe.
bool SleepUnlessStopped(absl::Duration duration, const std::stop_token& stop);

// Whether a call that ended so may succeed when it is simply made again: UNAVAILABLE, or CANCELLED by a
// server that is shutting down. Thread-safe.
bool IsTransient(const absl::Status& status);

// The delays between the tries of one call: growing, with jitter, or as the server asked in
// RetryInfo. Not thread-safe.
class Backoff {
 public:
  explicit Backoff(const RetryOptions& options) : options_(options) {}

  // Sleeps before another try after `failure`. False, without sleeping it out: the time is over, or
  // `stop` was requested.
  bool Wait(const absl::Status& failure, const std::stop_token& stop);

  // What Wait would sleep now for `failure`, jitter left out.
  absl::Duration NextDelay(const absl::Status& failure) const;

  // Failures since the start or the last Reset that Wait was called for.
  int failures() const { return failures_; }

  // Something worked: start from the shortest delay again, and with all of the time. A new
  // `give_up_after` may apply from here on.
  void Reset(absl::Duration give_up_after);

 private:
  RetryOptions options_;
  int failures_ = 0;
  absl::Time first_failure_ = absl::InfinitePast();
  absl::BitGen random_;
};

}  // namespace normlab::client
