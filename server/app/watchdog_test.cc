#include "server/app/watchdog.h"

#include <atomic>
#include <functional>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include <gtest/gtest.h>

#include "server/api/work_pool.h"

namespace normlab::server {
namespace {

// Only a bug waits so long.
constexpr absl::Duration kDeadline = absl::Seconds(60);
constexpr absl::Duration kInterval = absl::Milliseconds(5);

// Counts what the watchdog says.
class Said {
 public:
  std::function<void()> Callback() {
    return [this] {
      absl::MutexLock lock(&mu_);
      ++count_;
    };
  }
  int count() {
    absl::MutexLock lock(&mu_);
    return count_;
  }
  bool WaitForMore(int than) {
    absl::MutexLock lock(&mu_);
    const auto more = [this, than]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return count_ > than; };
    return mu_.AwaitWithTimeout(absl::Condition(&more), kDeadline);
  }

 private:
  absl::Mutex mu_;
  int count_ ABSL_GUARDED_BY(mu_) = 0;
};

Watchdog::Loop PoolLoop(const std::string& name, WorkPool& pool) {
  return {name, [&pool](std::function<void()> answer) { pool.Post(std::move(answer)); }};
}

TEST(WatchdogTest, SaysThatItLivesAgainAndAgain) {
  WorkPool one(1, 1);
  WorkPool other(1, 1);
  Said said;
  Watchdog watchdog({PoolLoop("one", one), PoolLoop("other", other)}, kInterval, said.Callback());
  EXPECT_TRUE(said.WaitForMore(4));
}

TEST(WatchdogTest, OneSilentLoopSilencesItUntilThatLoopAnswers) {
  WorkPool lively(1, 1);
  WorkPool stuck(1, 1);
  Said said;
  std::atomic<int> asked = 0;
  Watchdog::Loop counted = PoolLoop("lively", lively);
  counted.ask = [&asked, ask = counted.ask](std::function<void()> answer) {
    asked.fetch_add(1);
    ask(std::move(answer));
  };
  Watchdog watchdog({counted, PoolLoop("stuck", stuck)}, kInterval, said.Callback());
  ASSERT_TRUE(said.WaitForMore(0));

  absl::Mutex mu;
  bool hung = false;
  bool released = false;
  stuck.Post([&] {
    absl::MutexLock lock(&mu);
    hung = true;
    mu.Await(absl::Condition(&released));
  });
  {
    absl::MutexLock lock(&mu);
    mu.Await(absl::Condition(&hung));
  }
  // A round that had its answers already may still be told of.
  int rounds = asked.load();
  while (asked.load() < rounds + 2) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  const int said_before = said.count();
  rounds = asked.load();
  while (asked.load() < rounds + 5) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_EQ(said.count(), said_before) << "a loop hangs, and the others were asked five times";
  {
    absl::MutexLock lock(&mu);
    released = true;
  }
  EXPECT_TRUE(said.WaitForMore(said_before));
}

TEST(WatchdogTest, EndsThoughALoopIsSilentAndTakesALateAnswer) {
  Said said;
  std::function<void()> late;
  {
    std::atomic<bool> asked = false;
    Watchdog watchdog({{"mute",
                        [&](std::function<void()> answer) {
                          late = std::move(answer);
                          asked.store(true);
                        }}},
                      kInterval, said.Callback());
    while (!asked.load()) {
      absl::SleepFor(absl::Milliseconds(1));
    }
  }
  ASSERT_TRUE(late != nullptr);
  late();
  EXPECT_EQ(said.count(), 0);
}

}  // namespace
}  // namespace normlab::server
