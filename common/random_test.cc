#include "common/random.h"

#include <array>
#include <cmath>
#include <vector>

#include <gtest/gtest.h>

namespace normlab::common {
namespace {

constexpr int kDraws = 200000;
// Four standard errors of the mean of kDraws values with unit variance.
constexpr double kMeanTolerance = 4.0 / 447.0;

TEST(RandomStreamTest, IsAPureFunctionOfItsFourKeys) {
  const RandomStream a(7, "shuffle");
  const RandomStream b(7, "shuffle");
  EXPECT_EQ(a.Bits(3, 5), b.Bits(3, 5));
  EXPECT_NE(a.Bits(3, 5), a.Bits(3, 6));
  EXPECT_NE(a.Bits(3, 5), a.Bits(4, 5));
  EXPECT_NE(a.Bits(3, 5), RandomStream(8, "shuffle").Bits(3, 5));
  EXPECT_NE(a.Bits(3, 5), RandomStream(7, "init").Bits(3, 5));
}

TEST(RandomStreamTest, BitsInBulkAreTheBitsOneByOne) {
  const RandomStream stream(9, "bulk");
  // Odd counts (vector code has a rest), indices and steps beyond 32 bits, in no order.
  for (const size_t count : {size_t{1}, size_t{7}, size_t{16}, size_t{131}}) {
    std::vector<uint64_t> indices(count);
    for (size_t i = 0; i < count; ++i) {
      indices[i] = i * i * 0x123456789ULL + (i % 3 == 0 ? 5 : 0);
    }
    const uint64_t step = 0xA00000003ULL;
    std::array<std::vector<uint32_t>, 4> words;
    std::array<uint32_t*, 4> into = {};
    for (size_t k = 0; k < 4; ++k) {
      words[k].assign(count + 1, 77);
      into[k] = words[k].data();
    }
    stream.FillBits(step, indices, into);
    for (size_t i = 0; i < count; ++i) {
      const std::array<uint32_t, 4> expected = stream.Bits(step, indices[i]);
      for (size_t k = 0; k < 4; ++k) {
        EXPECT_EQ(words[k][i], expected[k]) << count << " " << i << " " << k;
      }
    }
    EXPECT_EQ(words[0][count], 77U) << "written past the end";
  }
}

// Moments up to the fourth: mean 0, variance 1, skewness 0, kurtosis 3.
TEST(RandomStreamTest, NormalHasTheMomentsOfANormal) {
  const RandomStream stream(1, "moments");
  double sum[5] = {};
  for (int i = 0; i < kDraws; ++i) {
    const double x = stream.Normal(0, i);
    ASSERT_TRUE(std::isfinite(x));
    for (int power = 1; power <= 4; ++power) {
      sum[power] += std::pow(x, power);
    }
  }
  EXPECT_NEAR(sum[1] / kDraws, 0.0, kMeanTolerance);
  EXPECT_NEAR(sum[2] / kDraws, 1.0, kMeanTolerance * std::sqrt(2.0));
  EXPECT_NEAR(sum[3] / kDraws, 0.0, kMeanTolerance * std::sqrt(15.0));
  EXPECT_NEAR(sum[4] / kDraws, 3.0, kMeanTolerance * std::sqrt(96.0));
}

TEST(RandomStreamTest, UniformFillsItsRangeEvenly) {
  const RandomStream stream(2, "uniform");
  constexpr int kBuckets = 20;
  int counts[kBuckets] = {};
  for (int i = 0; i < kDraws; ++i) {
    const double x = stream.Uniform(1, i);
    ASSERT_GE(x, 0.0);
    ASSERT_LT(x, 1.0);
    ++counts[static_cast<int>(x * kBuckets)];
  }
  const double expected = static_cast<double>(kDraws) / kBuckets;
  double chi_square = 0;
  for (const int count : counts) {
    chi_square += (count - expected) * (count - expected) / expected;
  }
  EXPECT_LT(chi_square, 50.8);  // 19 degrees of freedom, p = 1e-4
}

TEST(RandomStreamTest, BelowStaysBelowAndReachesEveryValue) {
  const RandomStream stream(3, "below");
  int counts[7] = {};
  for (int i = 0; i < 7000; ++i) {
    const uint64_t value = stream.Below(7, 2, i);
    ASSERT_LT(value, 7U);
    ++counts[value];
  }
  for (const int count : counts) {
    EXPECT_GT(count, 800);
  }
}

}  // namespace
}  // namespace normlab::common
