#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace normlab::common {

// Where threads wait, with a time limit, for something that an absl::Mutex guards.
//
// The timed waits of Abseil end at a time of the wall clock: set back by an hour, they last an hour
// longer, and set forward they end at once. These run on the monotonic clock. Unlike with
// absl::Condition, whoever changes what is waited for calls NotifyAll; while holding the mutex, so
// that the waiting side may destroy both once it has seen the change.
//
// Thread-safe.
class SteadyWait {
 public:
  void NotifyAll() { changed_.notify_all(); }

  // Waits until `ready()`, which is called with `mu` held, or for `timeout`; the answer is whether
  // it is ready. Not positive: only looks. Infinite: waits for as long as it takes.
  template <typename Ready>
  bool WaitFor(absl::Mutex& mu, absl::Duration timeout, Ready ready)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    using Steady = std::chrono::steady_clock;
    Lock lock(mu);
    // Longer than any process lives, and short enough that no sum overflows.
    constexpr absl::Duration kForever = absl::Hours(24 * 365 * 100);
    const Steady::time_point deadline =
        Steady::now() +
        absl::ToChronoNanoseconds(std::clamp(timeout, absl::ZeroDuration(), kForever));
    while (!ready()) {
      if (Steady::now() >= deadline) {
        return false;
      }
      changed_.wait_until(lock, deadline);
    }
    return true;
  }

 private:
  // What std::condition_variable_any wants of a mutex.
  class Lock {
   public:
    explicit Lock(absl::Mutex& mu) : mu_(mu) {}
    void lock() ABSL_NO_THREAD_SAFETY_ANALYSIS { mu_.Lock(); }
    void unlock() ABSL_NO_THREAD_SAFETY_ANALYSIS { mu_.Unlock(); }

   private:
    absl::Mutex& mu_;
  };

  std::condition_variable_any changed_;
};

}  // namespace normlab::common
