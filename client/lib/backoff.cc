#include "client/lib/backoff.h"

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <mutex>

#include "absl/time/clock.h"

#include "client/lib/rpc_error.h"

namespace normlab::client {
namespace {

constexpr double kGrowth = 1.6;
constexpr double kJitter = 0.2;
// A server may ask for patience, but not for ever.
constexpr absl::Duration kLongestAskedDelay = absl::Seconds(30);

}  // namespace

bool SleepUnlessStopped(absl::Duration duration, const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any wake;
  std::unique_lock<std::mutex> lock(mutex);
  wake.wait_for(lock, stop, absl::ToChronoNanoseconds(duration), [] { return false; });
  return !stop.stop_requested();
}

bool IsTransient(const absl::Status& status) {
  // A call that arrives while gRPC shuts a server down is answered with CANCELLED. What this client cancelled itself is
  // never repeated either: every wait ends at once when stop was requested.
  return absl::IsUnavailable(status) || absl::IsCancelled(status);
}

absl::Duration Backoff::NextDelay(const absl::Status& failure) const {
  const absl::Duration grown = options_.initial_delay * std::pow(kGrowth, std::min(failures_, 30));
  const absl::Duration asked = RetryDelay(failure).value_or(absl::ZeroDuration());
  return std::max(std::min(grown, options_.max_delay), std::min(asked, kLongestAskedDelay));
}

bool Backoff::Wait(const absl::Status& failure, const std::stop_token& stop) {
  const absl::Time now = absl::Now();
  if (failures_ == 0) {
    first_failure_ = now;
  }
  const absl::Duration next = NextDelay(failure);
  // Jitter does not go beyond the longest delay.
  const absl::Duration jittered = std::min(next * absl::Uniform(random_, 1 - kJitter, 1 + kJitter),
                                           std::max(next, options_.max_delay));
  // Who comes back before it was asked to is refused again.
  const absl::Duration asked = RetryDelay(failure).value_or(absl::ZeroDuration());
  const absl::Duration delay = std::max(jittered, std::min(asked, kLongestAskedDelay));
  if (options_.give_up_after <= absl::ZeroDuration() ||
      now + delay > first_failure_ + options_.give_up_after) {
    return false;
  }
  ++failures_;
  return SleepUnlessStopped(delay, stop);
}

void Backoff::Reset(absl::Duration give_up_after) {
  failures_ = 0;
  options_.give_up_after = give_up_after;
}

}  // namespace normlab::client
