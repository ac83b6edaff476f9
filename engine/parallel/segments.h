#pragma once

#include <algorithm>
#include <cstdint>

namespace normlab::engine {

// The part of `count` values that rank `rank` of `size` adds up.
struct Segment {
  int64_t first = 0;
  int64_t count = 0;
};

// Contiguous, in the order of ranks, as equal as multiples of a cache line allow; may be empty.
// Pure.
inline Segment SegmentOf(int64_t count, int rank, int size) {
  constexpr int64_t kLine = 16;  // floats
  const int64_t lines = (count + kLine - 1) / kLine;
  const auto begin = [&](int64_t r) { return std::min(lines * r / size * kLine, count); };
  return {begin(rank), begin(rank + 1) - begin(rank)};
}

}  // namespace normlab::engine
