#include "engine/tensor/magnitude.h"

#include <algorithm>
#include <bit>

#include "engine/tensor/vectorize.h"

namespace normlab::engine {
namespace {

NORMLAB_VECTORIZE uint32_t LargestOfFloats(const float* values, int64_t count) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    largest = std::max(largest, std::bit_cast<uint32_t>(values[i]) & kMagnitudeBits);
  }
  return largest;
}

NORMLAB_VECTORIZE uint32_t LargestOfBfloats(const uint16_t* values, int64_t count) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    largest = std::max(largest, uint32_t{values[i]} << 16U & kMagnitudeBits);
  }
  return largest;
}

}  // namespace

uint32_t LargestMagnitude(const float* values, int64_t count) {
  return LargestOfFloats(values, count);
}

uint32_t LargestMagnitude(const uint16_t* bfloats, int64_t count) {
  return LargestOfBfloats(bfloats, count);
}

}  // namespace normlab::engine
