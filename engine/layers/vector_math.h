#pragma once

#include <bit>
#include <cstdint>

#include "engine/tensor/vectorize.h"

namespace normlab::engine {

inline constexpr float kLowestExponent = -87.3F;

// e^x in the parts 2^n and q with e^x = 2^n (1 + q), |q| < 0.42.
struct ExpParts {
  float power;
  float q;
};

// e^x without branches, so that loops over it become vector code. Relative error below 2e-7; below
// -87.3 it is 0, above 88 it stays at e^88 (finite); NaN stays NaN. Cody and Waite's reduction,
// polynomial of Cephes (expf).
NORMLAB_INLINE ExpParts SplitExp(float x) {
  constexpr float kHighest = 88.0F;
  constexpr float kLog2E = 1.44269504088896341F;
  constexpr float kLn2High = 0.693359375F;
  constexpr float kLn2Low = -2.12194440e-4F;
  constexpr float kRounder =
      12582912.0F;  // 1.5 * 2^23: adding it leaves the rounded integer in the low bits
  // Comparisons in this form keep NaN.
  float clamped = x < kLowestExponent ? kLowestExponent : x;
  clamped = clamped > kHighest ? kHighest : clamped;
  const float shifted = clamped * kLog2E + kRounder;
  const float n = shifted - kRounder;
  const float r = clamped - n * kLn2High - n * kLn2Low;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  const float q = p * r * r + r;
  const int32_t exponent = std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(kRounder) + 127;
  return {std::bit_cast<float>(static_cast<uint32_t>(exponent) << 23), q};
}

NORMLAB_INLINE float VectorExp(float x) {
  const ExpParts parts = SplitExp(x);
  const float result = (parts.q + 1.0F) * parts.power;
  return x < kLowestExponent ? 0.0F : result;
}

// e^x - 1, with a small relative error near 0 too.
NORMLAB_INLINE float VectorExpm1(float x) {
  const ExpParts parts = SplitExp(x);
  return parts.q * parts.power + (parts.power - 1.0F);
}

NORMLAB_INLINE float VectorSigmoid(float x) {
  return 1.0F / (1.0F + VectorExp(-x));
}

// Relative error below 3e-7 also near 0, where the formula with e^(2x) would cancel; polynomial of
// Cephes (tanhf).
NORMLAB_INLINE float VectorTanh(float x) {
  const float magnitude = x < 0 ? -x : x;
  const float z = x * x;
  float p = -5.70498872745e-3F;
  p = p * z + 2.06390887954e-2F;
  p = p * z - 5.37397155531e-2F;
  p = p * z + 1.33314422036e-1F;
  p = p * z - 3.33332819422e-1F;
  const float small = p * z * x + x;
  const float large = 1.0F - 2.0F / (VectorExp(2.0F * magnitude) + 1.0F);
  const float signed_large = x < 0 ? -large : large;
  return magnitude < 0.625F ? small : signed_large;
}

}  // namespace normlab::engine
