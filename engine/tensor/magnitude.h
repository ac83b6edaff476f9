#pragma once

#include <cstdint>

namespace normlab::engine {

// Bits of a float without its sign, and those of infinity: above them every NaN.
inline constexpr uint32_t kMagnitudeBits = 0x7FFFFFFF;
inline constexpr uint32_t kInfinityBits = 0x7F800000;

// The largest of the values' magnitudes, as bits: at least kInfinityBits when one of them is
// infinite, above it when one is NaN; 0 of none. Vectorized. Thread-safe.
uint32_t LargestMagnitude(const float* values, int64_t count);
// The same of bfloat16 numbers, as the floats that they are.
uint32_t LargestMagnitude(const uint16_t* bfloats, int64_t count);

}  // namespace normlab::engine
