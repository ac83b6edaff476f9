#include "engine/layers/nan_check.h"

#include <algorithm>
#include <bit>

#include "engine/layers/elementwise.h"
#include "engine/tensor/vectorize.h"

namespace normlab::engine {
namespace {

constexpr int64_t kChunk = int64_t{1} << 14;

// Bits of a number without its sign: those of infinity, and above them every NaN.
constexpr uint32_t kMagnitude = 0x7FFFFFFF;
constexpr uint32_t kInfinity = 0x7F800000;

NORMLAB_VECTORIZE uint32_t LargestMagnitude(int64_t count, const float* x) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    largest = std::max(largest, std::bit_cast<uint32_t>(x[i]) & kMagnitude);
  }
  return largest;
}

NORMLAB_VECTORIZE uint32_t LargestMagnitudeBf16(int64_t count, const uint16_t* x) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    largest = std::max(largest, uint32_t{x[i]} << 16U & kMagnitude);
  }
  return largest;
}

template <typename Kernel>
bool InChunks(int64_t count, const Kernel& kernel) {
  uint32_t largest = 0;
#pragma omp parallel for schedule(static) reduction(max : largest) if (count > kSmallTensorElements)
  for (int64_t first = 0; first < count; first += kChunk) {
    largest = std::max(largest, kernel(first, std::min(kChunk, count - first)));
  }
  return largest > kInfinity;
}

}  // namespace

bool HasNan(int64_t count, const float* x) {
  return InChunks(count,
                  [x](int64_t first, int64_t size) { return LargestMagnitude(size, x + first); });
}

bool HasNan(const View& x) {
  const int64_t count = x.layout.element_count();
  if (x.layout.type() == DataType::kF32) {
    return HasNan(count, x.floats());
  }
  const auto* values = reinterpret_cast<const uint16_t*>(x.buffer->data);
  return InChunks(count, [values](int64_t first, int64_t size) {
    return LargestMagnitudeBf16(size, values + first);
  });
}

}  // namespace normlab::engine
