#include "engine/worker/metric_ring.h"

#include <array>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace normlab::engine {
namespace {

using Point = std::pair<uint32_t, double>;

bool PushPoints(MetricRing& ring, const StepInfo& info, const std::vector<Point>& points) {
  return ring.Push(info, points.size(), [&](size_t i) { return points[i]; });
}

TEST(MetricRingTest, KeepsWhatWasPushed) {
  MetricRing ring(64);
  ASSERT_TRUE(PushPoints(ring, {7, -5, 0.25F, 60}, {{3, 1.5}, {0, -2.0}, {4'000'000'000U, 1e300}}));
  ASSERT_TRUE(PushPoints(ring, {8, 11, 0, 0}, {}));
  EXPECT_EQ(ring.pushed(), 2);

  StepEntry entry;
  ASSERT_TRUE(ring.Pop(entry));
  EXPECT_EQ(entry.info.step, 7);
  EXPECT_EQ(entry.info.elapsed_us, -5);
  EXPECT_EQ(entry.info.step_seconds, 0.25F);
  EXPECT_EQ(entry.info.examples, 60U);
  EXPECT_EQ(entry.series, (std::vector<uint32_t>{3, 0, 4'000'000'000U}));
  EXPECT_EQ(entry.values, (std::vector<double>{1.5, -2.0, 1e300}));
  ASSERT_TRUE(ring.Pop(entry));
  EXPECT_EQ(entry.info.step, 8);
  EXPECT_TRUE(entry.series.empty());
  EXPECT_FALSE(ring.Pop(entry));
}

// The ring is small, so it wraps thousands of times and the producer often has to wait; every kind
// of size occurs.
TEST(MetricRingTest, TwoThreadsLoseAndReorderNothing) {
  constexpr int64_t kSteps = 200'000;
  constexpr size_t kMaxPoints = 6;
  MetricRing ring(64);
  std::thread producer([&] {
    std::array<Point, kMaxPoints> points;
    for (int64_t step = 0; step < kSteps; ++step) {
      const size_t count = static_cast<size_t>(step) % (kMaxPoints + 1);
      for (size_t i = 0; i < count; ++i) {
        points[i] = {static_cast<uint32_t>(i),
                     static_cast<double>(step) * 10 + static_cast<double>(i)};
      }
      ASSERT_TRUE(ring.Push({step, 2 * step, 1, 3}, count, [&](size_t i) { return points[i]; }));
    }
  });
  StepEntry entry;
  for (int64_t step = 0; step < kSteps;) {
    if (!ring.Pop(entry)) {
      std::this_thread::yield();
      continue;
    }
    ASSERT_EQ(entry.info.step, step);
    ASSERT_EQ(entry.info.elapsed_us, 2 * step);
    ASSERT_EQ(entry.values.size(), static_cast<size_t>(step) % (kMaxPoints + 1));
    for (size_t i = 0; i < entry.values.size(); ++i) {
      ASSERT_EQ(entry.series[i], i);
      ASSERT_EQ(entry.values[i], static_cast<double>(step) * 10 + static_cast<double>(i));
    }
    ++step;
  }
  producer.join();
  EXPECT_FALSE(ring.Pop(entry));
}

TEST(MetricRingTest, CloseLetsAWaitingProducerGo) {
  MetricRing ring(16);
  std::thread producer([&] {
    int64_t step = 0;
    while (PushPoints(ring, {step, 0, 0, 0}, {{0, 1.0}})) {
      ++step;
    }
    EXPECT_EQ(step, 2);  // two entries of 6 words fit into 16
  });
  while (ring.pushed() < 2) {
    std::this_thread::yield();
  }
  ring.Close();
  producer.join();
  StepEntry entry;
  EXPECT_TRUE(ring.Pop(entry));
  EXPECT_TRUE(ring.Pop(entry));
  EXPECT_FALSE(ring.Pop(entry));
}

TEST(MetricRingTest, RefusesWhatCanNeverFit) {
  MetricRing ring(16);
  EXPECT_FALSE(PushPoints(ring, {0, 0, 0, 0}, std::vector<Point>(9)));
  EXPECT_TRUE(PushPoints(ring, {0, 0, 0, 0}, std::vector<Point>(8)));
}

}  // namespace
}  // namespace normlab::engine
