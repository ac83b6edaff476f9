#include "engine/checkpoint/float_conversion.h"

#include <bit>
#include <cmath>
#include <cstring>

namespace normlab::engine {
namespace {

template <typename Value>
Value Load(const char* bytes) {
  static_assert(std::endian::native == std::endian::little);
  Value value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

// IEEE 754 binary16: a sign, 5 bits of exponent (bias 15), 10 of fraction.
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

// The upper half of a float.
float FromBfloat(uint16_t bfloat) {
  return std::bit_cast<float>(uint32_t{bfloat} << 16);
}

}  // namespace

std::optional<FloatFormat> FloatFormatOf(absl::string_view dtype) {
  if (dtype == "F32") {
    return FloatFormat::kF32;
  }
  if (dtype == "F64") {
    return FloatFormat::kF64;
  }
  if (dtype == "F16") {
    return FloatFormat::kF16;
  }
  if (dtype == "BF16") {
    return FloatFormat::kBf16;
  }
  return std::nullopt;
}

int64_t BytesOf(FloatFormat format) {
  switch (format) {
    case FloatFormat::kF64:
      return 8;
    case FloatFormat::kF32:
      return 4;
    case FloatFormat::kF16:
    case FloatFormat::kBf16:
      break;
  }
  return 2;
}

void ConvertToFloat(FloatFormat format, absl::string_view bytes, absl::Span<float> values) {
  const char* from = bytes.data();
  switch (format) {
    case FloatFormat::kF64:
      for (size_t i = 0; i < values.size(); ++i) {
        values[i] = static_cast<float>(Load<double>(from + i * sizeof(double)));
      }
      return;
    case FloatFormat::kF32:
      std::memcpy(values.data(), from, values.size() * sizeof(float));
      return;
    case FloatFormat::kF16:
      for (size_t i = 0; i < values.size(); ++i) {
        values[i] = FromHalf(Load<uint16_t>(from + i * sizeof(uint16_t)));
      }
      return;
    case FloatFormat::kBf16:
      for (size_t i = 0; i < values.size(); ++i) {
        values[i] = FromBfloat(Load<uint16_t>(from + i * sizeof(uint16_t)));
      }
      return;
  }
}

}  // namespace normlab::engine
