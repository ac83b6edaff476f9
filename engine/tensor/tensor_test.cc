#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "gtest/gtest.h"

#include "common/random.h"
#include "engine/tensor/arena.h"
#include "engine/tensor/buffer_pool.h"

namespace normlab::engine {
namespace {

bool IsAligned(const void* data) {
  return reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(kTensorAlignment) == 0;
}

TEST(ArenaTest, IsZeroedAlignedAndKeepsItsMemoryWhenMoved) {
  for (const int64_t floats : {int64_t{0}, int64_t{1}, int64_t{37}, int64_t{1} << 20}) {
    Arena arena(floats);
    EXPECT_TRUE(IsAligned(arena.data()));
    EXPECT_EQ(arena.size(), floats);
    EXPECT_TRUE(
        std::all_of(arena.span().begin(), arena.span().end(), [](float v) { return v == 0; }));
    const float* data = arena.data();
    const Arena moved = std::move(arena);
    EXPECT_EQ(moved.data(), data);
  }
}

TEST(ArenaTest, ImpossibleSizesAreResourceExhausted) {
  const auto arena = Arena::Create(std::numeric_limits<int64_t>::max() / 4);
  ASSERT_FALSE(arena.ok());
  EXPECT_EQ(arena.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Arena::Create(-1).status().code(), absl::StatusCode::kResourceExhausted);
}

bool Overlap(const Buffer& a, const Buffer& b) {
  return a.data < b.data + b.bytes && b.data < a.data + a.bytes;
}

TEST(BufferPoolTest, MemoryIsSharedOnlyByBuffersThatAreNeverNeededTogether) {
  BufferPool pool;
  Buffer* kept = pool.Reserve(5, /*tick=*/2, /*kept=*/true);
  Buffer* early = pool.Reserve(130, 0, false);
  Buffer* late = pool.Reserve(100, 3, false);
  BufferPool::Use(*early, 2);
  float mine[3] = {1, 2, 3};
  const Buffer* borrowed = pool.Borrow(mine, 3);
  EXPECT_EQ(early->data, nullptr);
  ASSERT_TRUE(pool.Allocate().ok());

  EXPECT_EQ(pool.bytes(), 64 + 192);
  EXPECT_EQ(early->data, late->data);
  EXPECT_FALSE(Overlap(*kept, *early));
  EXPECT_EQ(borrowed->floats(), mine);
  EXPECT_EQ(kept->floats()[0], 0.0F);
}

TEST(BufferPoolTest, AnyPatternOfLifetimesIsServedCompactly) {
  const common::RandomStream random(1, "lifetimes");
  constexpr int kTicks = 60;
  BufferPool pool;
  std::vector<Buffer*> buffers;
  for (uint64_t i = 0; i < 300; ++i) {
    const auto first = static_cast<int>(random.Below(kTicks, 0, i));
    const auto length = static_cast<int>(random.Below(12, 1, i));
    const auto bytes = static_cast<int64_t>(1 + random.Below(10000, 2, i));
    buffers.push_back(pool.Reserve(bytes, first, /*kept=*/i % 29 == 0));
    BufferPool::Use(*buffers.back(), std::min(first + length, kTicks - 1));
  }
  ASSERT_TRUE(pool.Allocate().ok());
  int64_t most_at_once = 0;
  for (int tick = 0; tick < kTicks; ++tick) {
    int64_t at_once = 0;
    for (const Buffer* buffer : buffers) {
      at_once += buffer->first_use <= tick && tick <= buffer->last_use ? buffer->bytes : 0;
    }
    most_at_once = std::max(most_at_once, at_once);
  }
  // No plan can need less; greedy placement wastes little (here less than a tenth).
  EXPECT_GE(pool.bytes(), most_at_once);
  EXPECT_LT(pool.bytes(), most_at_once * 11 / 10);
  for (const Buffer* a : buffers) {
    EXPECT_TRUE(IsAligned(a->data));
    for (const Buffer* b : buffers) {
      const bool together = a->first_use <= b->last_use && b->first_use <= a->last_use;
      EXPECT_FALSE(a != b && together && Overlap(*a, *b));
    }
  }
}

}  // namespace
}  // namespace normlab::engine
