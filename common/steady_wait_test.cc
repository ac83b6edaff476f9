#include "common/steady_wait.h"

#include <dlfcn.h>
#include <pthread.h>
#include <time.h>

#include <atomic>
#include <thread>

#include "gtest/gtest.h"

#include "common/clock.h"

namespace {

// Which clocks the waits of this program ended on.
std::atomic<int> monotonic_waits{0};
std::atomic<int> wall_clock_waits{0};

}  // namespace

#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#define NORMLAB_WATCHES_WAITS 1

// In place of the C library's: nobody can set this machine's clock for a test, but on which clock a
// wait ends is all that matters.
extern "C" int pthread_cond_clockwait(pthread_cond_t* condition,
                                      pthread_mutex_t* mutex,
                                      clockid_t clock,
                                      const timespec* until) {
  using Function = int (*)(pthread_cond_t*, pthread_mutex_t*, clockid_t, const timespec*);
  static const auto real = reinterpret_cast<Function>(dlsym(RTLD_NEXT, "pthread_cond_clockwait"));
  ++(clock == CLOCK_MONOTONIC ? monotonic_waits : wall_clock_waits);
  return real(condition, mutex, clock, until);
}

extern "C" int pthread_cond_timedwait(pthread_cond_t* condition,
                                      pthread_mutex_t* mutex,
                                      const timespec* until) {
  using Function = int (*)(pthread_cond_t*, pthread_mutex_t*, const timespec*);
  static const auto real = reinterpret_cast<Function>(dlsym(RTLD_NEXT, "pthread_cond_timedwait"));
  ++wall_clock_waits;
  return real(condition, mutex, until);
}
#endif

namespace normlab::common {
namespace {

TEST(SteadyWaitTest, EndsWithWhatItWaitsFor) {
  absl::Mutex mu;
  SteadyWait changed;
  bool there = false;
  std::thread sender([&] {
    absl::MutexLock lock(&mu);
    there = true;
    changed.NotifyAll();
  });
  {
    absl::MutexLock lock(&mu);
    EXPECT_TRUE(changed.WaitFor(mu, absl::InfiniteDuration(), [&] { return there; }));
  }
  sender.join();
}

TEST(SteadyWaitTest, EveryoneWhoWaitsIsTold) {
  constexpr int kThreads = 5;
  absl::Mutex mu;
  SteadyWait changed;
  int arrived = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      absl::MutexLock lock(&mu);
      ++arrived;
      changed.NotifyAll();
      EXPECT_TRUE(changed.WaitFor(mu, absl::Minutes(5), [&] { return arrived == kThreads; }));
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
}

TEST(SteadyWaitTest, EndsAfterItsTimeOnTheMonotonicClock) {
  absl::Mutex mu;
  SteadyWait changed;
  const int before = monotonic_waits;
  const absl::Duration start = Clock::Real().Monotonic();
  {
    absl::MutexLock lock(&mu);
    EXPECT_FALSE(changed.WaitFor(mu, absl::Milliseconds(30), [] { return false; }));
  }
  EXPECT_GE(Clock::Real().Monotonic() - start, absl::Milliseconds(30));
#ifdef NORMLAB_WATCHES_WAITS
  EXPECT_GT(monotonic_waits, before);
  EXPECT_EQ(wall_clock_waits, 0) << "a step of the wall clock would move its end";
#else
  (void)before;
#endif
}

TEST(SteadyWaitTest, WithoutTimeItOnlyLooks) {
  absl::Mutex mu;
  SteadyWait changed;
  const int before = monotonic_waits;
  absl::MutexLock lock(&mu);
  EXPECT_FALSE(changed.WaitFor(mu, absl::ZeroDuration(), [] { return false; }));
  EXPECT_FALSE(changed.WaitFor(mu, -absl::InfiniteDuration(), [] { return false; }));
  EXPECT_TRUE(changed.WaitFor(mu, -absl::Seconds(1), [] { return true; }));
  EXPECT_EQ(monotonic_waits, before);
}

}  // namespace
}  // namespace normlab::common
