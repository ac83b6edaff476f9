#include "engine/layers/nan_check.h"

#include <algorithm>

#include "engine/layers/elementwise.h"
#include "engine/tensor/magnitude.h"

namespace normlab::engine {
namespace {

constexpr int64_t kChunk = int64_t{1} << 14;

template <typename Kernel>
bool InChunks(int64_t count, const Kernel& kernel) {
  uint32_t largest = 0;
#pragma omp parallel for schedule(static) reduction(max : largest) if (count > kSmallTensorElements)
  for (int64_t first = 0; first < count; first += kChunk) {
    largest = std::max(largest, kernel(first, std::min(kChunk, count - first)));
  }
  return largest > kInfinityBits;
}

}  // namespace

bool HasNan(int64_t count, const float* x) {
  return InChunks(count,
                  [x](int64_t first, int64_t size) { return LargestMagnitude(x + first, size); });
}

bool HasNan(const View& x) {
  const int64_t count = x.layout.element_count();
  if (x.layout.type() == DataType::kF32) {
    return HasNan(count, x.floats());
  }
  const auto* values = reinterpret_cast<const uint16_t*>(x.buffer->data);
  return InChunks(count, [values](int64_t first, int64_t size) {
    return LargestMagnitude(values + first, size);
  });
}

}  // namespace normlab::engine
