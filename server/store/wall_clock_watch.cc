#include "server/store/wall_clock_watch.h"

#include <time.h>

#include "spdlog/spdlog.h"

namespace normlab::server {
namespace {

// A clock that is set by more has gone wrong, or right after it was wrong; no slewing comes so far.
constexpr absl::Duration kLargestStep = absl::Hours(1);

}  // namespace

WallClockWatch::WallClockWatch(const common::Clock& clock)
    : clock_(clock), lead_at_start_(Lead()) {}

absl::Duration WallClockWatch::Lead() const {
  absl::Duration other = clock_.Monotonic();
  if (&clock_ == &common::Clock::Real()) {
    // The wall clock goes on while the machine sleeps, and so does this one.
    timespec since_boot = {};
    clock_gettime(CLOCK_BOOTTIME, &since_boot);
    other = absl::DurationFromTimespec(since_boot);
  }
  return clock_.Now() - absl::UnixEpoch() - other;
}

bool WallClockWatch::IsTrusted() {
  const absl::Duration step = Lead() - lead_at_start_;
  const bool trusted = step <= kLargestStep && step >= -kLargestStep;
  absl::MutexLock lock(&mu_);
  if (trusted != trusted_) {
    trusted_ = trusted;
    if (trusted) {
      spdlog::info("the machine's time of day is as it was: jobs are removed for their age again");
    } else {
      spdlog::error(
          "the machine's time of day was set by {} since the start: no job is removed for its age "
          "(--retention_days) until that is undone; if the time is right now, restart the server",
          absl::FormatDuration(absl::Trunc(step, absl::Seconds(1))));
    }
  }
  return trusted;
}

}  // namespace normlab::server
