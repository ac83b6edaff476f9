#include "engine/checkpoint/float_conversion.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace normlab::engine {
namespace {

template <typename Value>
float Convert(FloatFormat format, Value value) {
  // At an odd address: nothing is aligned in a file.
  std::string bytes(1 + sizeof(value), '\0');
  std::memcpy(bytes.data() + 1, &value, sizeof(value));
  float result = -1;
  ConvertToFloat(format, absl::string_view(bytes).substr(1), absl::MakeSpan(&result, 1));
  return result;
}

TEST(FloatConversionTest, HalfAgainstItsDefinition) {
  const auto half = [](uint16_t bits) { return Convert(FloatFormat::kF16, bits); };
  EXPECT_EQ(half(0x0000), 0.0F);
  EXPECT_EQ(std::bit_cast<uint32_t>(half(0x8000)), 0x80000000U);  // -0
  EXPECT_EQ(half(0x3C00), 1.0F);
  EXPECT_EQ(half(0xC500), -5.0F);
  EXPECT_EQ(half(0x3555), 0.333251953125F);
  EXPECT_EQ(half(0x7BFF), 65504.0F);
  EXPECT_EQ(half(0x0400), std::ldexp(1.0F, -14));     // the smallest normal number
  EXPECT_EQ(half(0x03FF), std::ldexp(1023.0F, -24));  // the largest subnormal one
  EXPECT_EQ(half(0x0001), std::ldexp(1.0F, -24));     // the smallest
  EXPECT_EQ(half(0xFC00), -std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(half(0x7C01)));
  // All finite positive ones increase with their bits.
  for (uint16_t bits = 1; bits < 0x7C00; ++bits) {
    ASSERT_GT(half(bits), half(bits - 1)) << bits;
  }
}

TEST(FloatConversionTest, BfloatIsTheUpperHalfOfAFloat) {
  const auto bfloat = [](uint16_t bits) { return Convert(FloatFormat::kBf16, bits); };
  EXPECT_EQ(bfloat(0x3F80), 1.0F);
  EXPECT_EQ(bfloat(0xC0A0), -5.0F);
  EXPECT_EQ(bfloat(0x3EAB), 0.333984375F);
  EXPECT_EQ(bfloat(0x0001), std::bit_cast<float>(0x00010000U));
  EXPECT_TRUE(std::isnan(bfloat(0x7FC0)));
}

TEST(FloatConversionTest, DoubleIsRoundedAndFloatIsKept) {
  EXPECT_EQ(Convert(FloatFormat::kF64, 0.1), 0.1F);
  EXPECT_EQ(Convert(FloatFormat::kF64, 1e300), std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(Convert(FloatFormat::kF64, std::nan(""))));
  EXPECT_EQ(Convert(FloatFormat::kF32, 1e-42F), 1e-42F);
}

TEST(FloatConversionTest, OtherTypesAreNotFloats) {
  EXPECT_EQ(FloatFormatOf("F16"), FloatFormat::kF16);
  EXPECT_EQ(FloatFormatOf("BF16"), FloatFormat::kBf16);
  for (const char* dtype : {"I64", "U8", "BOOL", "F8_E4M3", "f32", ""}) {
    EXPECT_EQ(FloatFormatOf(dtype), std::nullopt) << dtype;
  }
  EXPECT_EQ(BytesOf(FloatFormat::kF64), 8);
  EXPECT_EQ(BytesOf(FloatFormat::kF32), 4);
  EXPECT_EQ(BytesOf(FloatFormat::kF16), 2);
  EXPECT_EQ(BytesOf(FloatFormat::kBf16), 2);
}

}  // namespace
}  // namespace normlab::engine
