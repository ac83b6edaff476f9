#include <algorithm>
#include <cstdint>
#include <limits>

#include "gtest/gtest.h"

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

TEST(BufferPoolTest, KeptBuffersAreDisjointAndRolesShare) {
  BufferPool pool;
  Buffer* a = pool.Reserve(5);
  Buffer* b = pool.Reserve(130);
  Buffer* even_small = pool.Reserve(70, BufferRole::kGradientEven);
  Buffer* even_large = pool.Reserve(300, BufferRole::kGradientEven);
  Buffer* odd = pool.Reserve(64, BufferRole::kGradientOdd);
  float mine[3] = {1, 2, 3};
  Buffer* borrowed = pool.Borrow(mine, 3);
  EXPECT_EQ(a->data, nullptr);
  EXPECT_EQ(pool.bytes(), 64 + 192 + 320 + 64);
  ASSERT_TRUE(pool.Allocate().ok());

  EXPECT_EQ(even_small->data, even_large->data);
  EXPECT_EQ(borrowed->floats(), mine);
  struct Range {
    const std::byte* begin;
    const std::byte* end;
  };
  const Range ranges[] = {{a->data, a->data + a->bytes},
                          {b->data, b->data + b->bytes},
                          {even_large->data, even_large->data + even_large->bytes},
                          {odd->data, odd->data + odd->bytes}};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_TRUE(IsAligned(ranges[i].begin));
    for (size_t j = i + 1; j < 4; ++j) {
      EXPECT_TRUE(ranges[i].end <= ranges[j].begin || ranges[j].end <= ranges[i].begin) << i << j;
    }
  }
}

}  // namespace
}  // namespace normlab::engine
