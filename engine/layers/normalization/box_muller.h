#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <numbers>

#include "engine/tensor/vectorize.h"

namespace normlab::engine {

// ln(x) for normal x > 0 without branches, so that loops over it become vector code. Relative error
// below 2e-7 (absolute near x = 1); polynomial of Cephes (logf).
NORMLAB_INLINE float VectorLog(float x) {
  constexpr uint32_t kMantissa = 0x007FFFFF;
  constexpr uint32_t kOne = 0x3F800000;
  constexpr float kRootOfTwo = 1.41421356237F;
  const auto bits = std::bit_cast<uint32_t>(x);
  auto exponent = static_cast<float>(static_cast<int32_t>(bits >> 23) - 127);
  float m = std::bit_cast<float>((bits & kMantissa) | kOne);
  const bool large = m > kRootOfTwo;
  m = (large ? m * 0.5F : m) - 1.0F;
  exponent = large ? exponent + 1.0F : exponent;
  const float z = m * m;
  float p = 7.0376836292e-2F;
  p = p * m - 1.1514610310e-1F;
  p = p * m + 1.1676998740e-1F;
  p = p * m - 1.2420140846e-1F;
  p = p * m + 1.4249322787e-1F;
  p = p * m - 1.6668057665e-1F;
  p = p * m + 2.0000714765e-1F;
  p = p * m - 2.4999993993e-1F;
  p = p * m + 3.3333331174e-1F;
  p = p * m * z - 2.12194440e-4F * exponent - 0.5F * z;
  return (m + p) + 0.693359375F * exponent;
}

// The cosine and sine of `turn` / 2^32 whole turns. Absolute error below 1e-7; polynomials of Cephes
// (sinf, cosf) on the eighth around the nearest quarter turn.
NORMLAB_INLINE void VectorCosSin(uint32_t turn, float& cosine, float& sine) {
  constexpr auto kRadians = static_cast<float>(2 * std::numbers::pi / 4294967296.0);
  const uint32_t quarter = (turn + 0x20000000U) >> 30;
  const float a = static_cast<float>(static_cast<int32_t>(turn - (quarter << 30))) * kRadians;
  const float z = a * a;
  float s = -1.9515295891e-4F;
  s = s * z + 8.3321608736e-3F;
  s = s * z - 1.6666654611e-1F;
  s = s * z * a + a;
  float c = 2.443315711809948e-5F;
  c = c * z - 1.388731625493765e-3F;
  c = c * z + 4.166664568298827e-2F;
  c = c * z * z - 0.5F * z + 1.0F;
  const bool swapped = (quarter & 1U) != 0;
  const float x = swapped ? s : c;
  const float y = swapped ? c : s;
  cosine = ((quarter + 1U) & 2U) != 0 ? -x : x;
  sine = (quarter & 2U) != 0 ? -y : y;
}

// Uniform in (0, 1], never 0: 31 bits, so that the logarithm reaches far into the tail.
NORMLAB_INLINE float PositiveUniform(uint32_t bits) {
  return static_cast<float>(static_cast<int32_t>(bits >> 1)) * 0x1.0p-31F + 0x1.0p-32F;
}

// Uniform in [0, 1) with 24 bits.
NORMLAB_INLINE float Uniform24(uint32_t bits) {
  return static_cast<float>(static_cast<int32_t>(bits >> 8)) * 0x1.0p-24F;
}

// Two independent standard normals of 64 random bits (Box and Muller 1958); magnitudes up to 6.6.
// Becomes vector code only where the compiler may forget errno (-fno-math-errno), because of the
// root.
NORMLAB_INLINE void BoxMuller(uint32_t bits0, uint32_t bits1, float& normal0, float& normal1) {
  const float radius = std::sqrt(-2.0F * VectorLog(PositiveUniform(bits0)));
  float cosine = 0;
  float sine = 0;
  VectorCosSin(bits1, cosine, sine);
  normal0 = radius * cosine;
  normal1 = radius * sine;
}

}  // namespace normlab::engine
