#include "server/app/readiness_sampler.h"

#include <atomic>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include <gtest/gtest.h>

namespace normlab::server {
namespace {

// Only a bug waits so long.
constexpr absl::Duration kDeadline = absl::Seconds(60);

ReadinessSampler::Sample Seen(int64_t bytes) {
  return {.ready = true, .work_disk = {{.size_bytes = bytes, .free_bytes = bytes - 1}}};
}

// A look may be late on a busy machine: asks until it is seen.
bool SeesInTime(ReadinessSampler& sampler, int64_t bytes) {
  const absl::Time end = absl::Now() + kDeadline;
  while (absl::Now() < end) {
    const ReadinessSampler::Sample sample = sampler.Latest();
    if (sample.ready && sample.work_disk.has_value() && sample.work_disk->size_bytes == bytes &&
        sample.work_disk->free_bytes == bytes - 1) {
      return true;
    }
  }
  return false;
}

TEST(ReadinessSamplerTest, EveryLookIsNew) {
  std::atomic<int64_t> bytes = 10;
  WorkPool pool(1, 1);
  ReadinessSampler sampler(pool, [&] { return Seen(bytes.load()); });
  EXPECT_TRUE(SeesInTime(sampler, 10));
  bytes.store(20);
  EXPECT_TRUE(SeesInTime(sampler, 20));
}

TEST(ReadinessSamplerTest, ADiskThatHangsHoldsNobodyUp) {
  absl::Notification mounted;
  std::atomic<int> looks = 0;
  {
    WorkPool pool(3, 1);
    ReadinessSampler sampler(pool, [&] {
      if (looks.fetch_add(1) == 1) {
        mounted.WaitForNotificationWithTimeout(kDeadline);
      }
      return Seen(looks.load() == 1 ? 10 : 20);
    });
    ASSERT_TRUE(SeesInTime(sampler, 10));
    const absl::Time end = absl::Now() + kDeadline;
    while (looks.load() < 2 && absl::Now() < end) {
      sampler.Latest();
    }
    // The second look hangs; all later questions are answered with what the first one saw.
    for (int i = 0; i < 5; ++i) {
      EXPECT_EQ(sampler.Latest().work_disk->size_bytes, 10);
    }
    EXPECT_EQ(looks.load(), 2) << "no thread more waits for a disk that hangs";
    mounted.Notify();
    EXPECT_TRUE(SeesInTime(sampler, 20)) << "it is looked at again";
  }
}

TEST(ReadinessSamplerTest, NothingSeenIsNotReady) {
  absl::Notification done;
  WorkPool pool(1, 1);
  ReadinessSampler sampler(pool, [&] {
    done.WaitForNotificationWithTimeout(kDeadline);
    return Seen(10);
  });
  const ReadinessSampler::Sample sample = sampler.Latest();
  EXPECT_FALSE(sample.ready);
  EXPECT_FALSE(sample.work_disk.has_value());
  done.Notify();
}

}  // namespace
}  // namespace normlab::server
