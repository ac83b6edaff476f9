#include "server/api/stream_registry.h"

#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include <gtest/gtest.h>

#include "common/clock.h"

namespace normlab::server {
namespace {

// Notes the time of every tick.
class NotedTicks final : public StreamControl {
 public:
  void Tick(absl::Duration now) override {
    absl::MutexLock lock(&mu_);
    now_ = now;
    ++ticks_;
  }
  void Drain() override {}

  // The time that the second tick from now on has: the first may be under way.
  absl::Duration After() {
    absl::MutexLock lock(&mu_);
    wanted_ = ticks_ + 2;
    mu_.Await(absl::Condition(this, &NotedTicks::Reached));
    return now_;
  }

 private:
  bool Reached() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return ticks_ >= wanted_; }
  absl::Mutex mu_;
  int ticks_ ABSL_GUARDED_BY(mu_) = 0;
  int wanted_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Duration now_ ABSL_GUARDED_BY(mu_);
};

TEST(StreamRegistryTest, ReadersAreNotChargedForTimesInWhichTheServerStoodStill) {
  common::FakeClock clock;
  StreamRegistry registry({.tick = absl::Milliseconds(1), .on_cut_off = nullptr, .clock = &clock});
  const auto stream = std::make_shared<NotedTicks>();
  ASSERT_TRUE(registry.Add(stream).ok());
  const absl::Duration begin = stream->After();
  for (int i = 0; i < 90; ++i) {
    clock.Advance(absl::Seconds(1));
    stream->After();
  }
  // Second by second: all of it counts.
  EXPECT_EQ(stream->After() - begin, absl::Seconds(90));
  // All at once: no tick came for ten minutes, so nobody was served.
  clock.Advance(absl::Minutes(10));
  EXPECT_LE(stream->After() - begin, absl::Seconds(90) + absl::Milliseconds(1));
  EXPECT_EQ(registry.Now(), stream->After());
  clock.Advance(absl::Seconds(1));
  EXPECT_GE(stream->After() - begin, absl::Seconds(91));
  registry.Remove(stream.get());
}

}  // namespace
}  // namespace normlab::server
