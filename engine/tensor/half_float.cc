#include "engine/tensor/half_float.h"

#include <bit>
#include <cmath>

namespace normlab::engine {

float FromHalf(uint16_t half) {
  constexpr int kFractionBits = 10;
  constexpr uint32_t kFraction = (1U << kFractionBits) - 1;
  constexpr uint32_t kLargestExponent = 31;
  constexpr int kSmallestPower = -24;  // of two: the unit of subnormal numbers
  const uint32_t exponent = half >> kFractionBits & kLargestExponent;
  const uint32_t fraction = half & kFraction;
  float magnitude = 0;
  if (exponent == 0) {
    magnitude = std::ldexp(static_cast<float>(fraction), kSmallestPower);
  } else if (exponent == kLargestExponent) {
    magnitude = fraction == 0 ? HUGE_VALF : NAN;
  } else {
    magnitude = std::ldexp(static_cast<float>(fraction | 1U << kFractionBits),
                           static_cast<int>(exponent) - 1 + kSmallestPower);
  }
  return (half & 0x8000U) != 0 ? -magnitude : magnitude;
}

float FromBfloat16(uint16_t bfloat) {
  return std::bit_cast<float>(uint32_t{bfloat} << 16);
}

}  // namespace normlab::engine
