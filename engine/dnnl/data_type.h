#pragma once

#include <bit>
#include <cstdint>

namespace normlab::engine {

// What the elements of a tensor are.
enum class DataType {
  kF32,
  kBf16,  // the upper half of an F32: its range, 8 bits of significand
};

inline constexpr int64_t BytesPerElement(DataType type) {
  return type == DataType::kBf16 ? 2 : 4;
}

// The nearest bf16, ties to even, as oneDNN and the hardware round; infinity beyond the largest.
// NaN stays NaN.
inline constexpr uint16_t ToBf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const bool is_nan = (bits & 0x7fffffffU) > 0x7f800000U;
  // A NaN whose payload is all in the lower half would become infinity: the quiet bit keeps it.
  const uint32_t rounded = is_nan ? bits | 0x00400000U : bits + 0x7fffU + ((bits >> 16U) & 1U);
  return static_cast<uint16_t>(rounded >> 16U);
}

// Exact.
inline constexpr float FromBf16(uint16_t value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value) << 16U);
}

}  // namespace normlab::engine
