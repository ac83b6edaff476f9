// Bits of floats: half precision, and magnitudes.
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"

#include "engine/tensor/half_float.h"
#include "engine/tensor/magnitude.h"

namespace normlab::engine {
namespace {

TEST(HalfFloatTest, EveryKindOfNumber) {
  EXPECT_EQ(FromHalf(0x3C00), 1.0F);
  EXPECT_EQ(FromHalf(0xC000), -2.0F);
  EXPECT_EQ(FromHalf(0x7BFF), 65504.0F);
  EXPECT_EQ(FromHalf(0x0400), 0x1p-14F);  // the smallest normal number
  EXPECT_EQ(FromHalf(0x0001), 0x1p-24F);  // the smallest of all
  EXPECT_TRUE(std::signbit(FromHalf(0x8000)));
  EXPECT_EQ(FromHalf(0xFC00), -std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(FromHalf(0x7C01)));
  EXPECT_EQ(FromBfloat16(0x3F80), 1.0F);
  EXPECT_EQ(FromBfloat16(0xC040), -3.0F);
}

TEST(MagnitudeTest, TellsInfinitiesAndNanFromNumbersAtAnyPlace) {
  for (const int64_t count : {1, 7, 16, 33}) {
    for (int64_t at = 0; at < count; ++at) {
      std::vector<float> values(static_cast<size_t>(count), -1.5F);
      const auto largest = [&](float value) {
        values[static_cast<size_t>(at)] = value;
        return LargestMagnitude(values.data(), count);
      };
      EXPECT_LT(largest(-std::numeric_limits<float>::max()), kInfinityBits);
      EXPECT_EQ(largest(-std::numeric_limits<float>::infinity()), kInfinityBits);
      EXPECT_GT(largest(-std::nanf("")), kInfinityBits);
      EXPECT_EQ(largest(3), std::bit_cast<uint32_t>(3.0F));
      std::vector<uint16_t> bfloats(static_cast<size_t>(count), 0xBFC0);
      bfloats[static_cast<size_t>(at)] = 0xFFC0;
      EXPECT_GT(LargestMagnitude(bfloats.data(), count), kInfinityBits);
    }
  }
  EXPECT_EQ(LargestMagnitude(static_cast<const float*>(nullptr), 0), 0U);
}

}  // namespace
}  // namespace normlab::engine
