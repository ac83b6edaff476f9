#pragma once

#include <cstdint>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace normlab::common {

// Keeps lines that others can cause, or that repeat, from filling the log: the first one is written, then at
// most one an interval, which says how many there were. Thread-safe.
class LogPace {
 public:
  explicit LogPace(absl::Duration interval) : interval_(interval) {}

  // How many events have come since the last line, with this one, when a line is due; `now` is monotonic.
  std::optional<int64_t> Count(absl::Duration now) ABSL_LOCKS_EXCLUDED(mu_) {
    absl::MutexLock lock(&mu_);
    ++events_;
    if (now < due_) {
      return std::nullopt;
    }
    due_ = now + interval_;
    const int64_t events = events_;
    events_ = 0;
    return events;
  }

 private:
  const absl::Duration interval_;
  absl::Mutex mu_;
  absl::Duration due_ ABSL_GUARDED_BY(mu_) = -absl::InfiniteDuration();
  int64_t events_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace normlab::common
