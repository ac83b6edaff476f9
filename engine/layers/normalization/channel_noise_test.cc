#include "engine/layers/normalization/channel_noise.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "gtest/gtest.h"

#include "engine/layers/normalization/box_muller.h"
#include "engine/layers/normalization/testing.h"
#include "engine/layers/reference_normalizers.h"
#include "engine/layers/testing.h"

namespace normlab::engine {
namespace {

using reference::NormShape;
using reference::Tensor;
using testing::Describe;
using testing::FloatsOf;
using testing::Inputs;
using testing::LayoutsOf;
using testing::Pack;
using testing::Random;
using testing::RelativeError;
using testing::ToFloats;
using testing::Unpack;

constexpr ChannelNoiseOptions kOptions = {0.5, 1.25, 0.1, 0.2};
// Normals by float polynomials (1e-6 at radii up to 6) times a jitter of 0.2, on inputs of size 5.
constexpr double kNoiseTolerance = 1e-6;

TEST(BoxMullerTest, FunctionsAreAccurate) {
  for (uint32_t i = 0; i < 4000; ++i) {
    const uint32_t bits = i * 0x9E3779B9U;
    const float u = PositiveUniform(bits >> (i % 30));
    ASSERT_GT(u, 0.0F);
    ASSERT_LE(u, 1.0F);
    const double expected = std::log(static_cast<double>(u));
    EXPECT_NEAR(static_cast<double>(VectorLog(u)), expected, 2e-7 * std::abs(expected) + 6e-8) << u;
    float cosine = 0, sine = 0;
    VectorCosSin(bits, cosine, sine);
    const double angle = 2 * M_PI * bits * 0x1.0p-32;
    EXPECT_NEAR(static_cast<double>(cosine), std::cos(angle), 1.5e-7);
    EXPECT_NEAR(static_cast<double>(sine), std::sin(angle), 1.5e-7);
  }
  EXPECT_EQ(VectorLog(1.0F), 0.0F);
  float normal0 = 0, normal1 = 0;
  BoxMuller(0, 0, normal0, normal1);
  EXPECT_NEAR(normal0, std::sqrt(2 * 32 * std::log(2.0)), 1e-5) << "the end of the tail";
}

TEST(ChannelNoiseTest, IsTheNoiseOfTheReferenceInEveryLayout) {
  for (const NormShape& shape :
       {NormShape{3, 5, 7}, NormShape{4, 19, 1}, NormShape{1, 131, 4}, NormShape{5, 33, 300}}) {
    const Tensor x = Inputs(shape), d_y = Random("d", static_cast<int64_t>(x.size()));
    const reference::Noise noise =
        reference::DrawNoise(11, "layer1.0.bn1", 123, shape, {0.5, 1.25, 0.1, 0.2});
    Tensor y = x, d_x = d_y;
    for (size_t i = 0; i < x.size(); ++i) {
      y[i] = noise.scale[i] * x[i] + noise.shift[i];
      d_x[i] = noise.scale[i] * d_y[i];
    }
    Tensor first;
    for (const ChannelBlocking& layout : LayoutsOf(shape)) {
      SCOPED_TRACE(Describe(layout));
      ChannelNoise layer(11, "layer1.0.bn1", layout, kOptions);
      layer.BeginStep(123);
      std::vector<float> values = Pack(layout, x), gradients = Pack(layout, d_y);
      layer.Forward(values.data(), values.data());
      layer.Backward(gradients.data(), gradients.data());
      const Tensor out = Unpack(layout, values);
      EXPECT_LT(RelativeError(out, y), kNoiseTolerance);
      EXPECT_LT(RelativeError(Unpack(layout, gradients), d_x), kNoiseTolerance);
      // Not only near, the same bits whatever the layout.
      first = first.empty() ? out : first;
      EXPECT_EQ(out, first);
    }
  }
}

// Draws of one layer as scales (from x = 1 less the shift at x = 0) and shifts.
struct Draws {
  std::vector<float> scale, shift;
};
Draws Draw(uint32_t seed, const char* name, uint64_t step, const ChannelBlocking& layout) {
  ChannelNoise layer(seed, name, layout, kOptions);
  layer.BeginStep(step);
  Draws draws = {std::vector<float>(static_cast<size_t>(FloatsOf(layout)), 1.0F),
                 std::vector<float>(static_cast<size_t>(FloatsOf(layout)), 0.0F)};
  layer.Backward(draws.scale.data(), draws.scale.data());
  layer.Forward(draws.shift.data(), draws.shift.data());
  return draws;
}

TEST(ChannelNoiseTest, HasTheMomentsAndTailsOfAlgorithm1) {
  constexpr int kCount = 400000;
  const ChannelBlocking layout = {4, 2, kCount / 4, 1};
  const Draws draws = Draw(5, "bn1", 0, layout);
  for (int c = 0; c < 2; ++c) {
    double sum[5] = {}, shift_sum = 0, shift_squares = 0, product = 0;
    double lowest = 9, highest = -9;
    int beyond3 = 0, beyond4 = 0;
    const double mean = [&] {
      double total = 0;
      for (int i = 0; i < kCount; ++i) {
        total += static_cast<double>(draws.scale[static_cast<size_t>(
            (i / (kCount / 4) * 2 + c) * (kCount / 4) + i % (kCount / 4))]);
      }
      return total / kCount;
    }();
    for (int i = 0; i < kCount; ++i) {
      const auto at =
          static_cast<size_t>((i / (kCount / 4) * 2 + c) * (kCount / 4) + i % (kCount / 4));
      const double z = (static_cast<double>(draws.scale[at]) - mean) / 0.2;
      const auto shift = static_cast<double>(draws.shift[at]);
      for (int power = 1; power <= 4; ++power) {
        sum[power] += std::pow(z, power) / kCount;
      }
      beyond3 += std::abs(z) > 3;
      beyond4 += std::abs(z) > 4;
      lowest = std::min(lowest, shift);
      highest = std::max(highest, shift);
      shift_sum += shift / kCount;
      product += z * shift / kCount;
    }
    for (int i = 0; i < kCount; ++i) {
      const auto at =
          static_cast<size_t>((i / (kCount / 4) * 2 + c) * (kCount / 4) + i % (kCount / 4));
      shift_squares += std::pow(static_cast<double>(draws.shift[at]) - shift_sum, 2) / kCount;
    }
    // sigma_j ~ U(1, 1.25), and four standard errors of moments of 400,000 normals.
    const double error = 4 / std::sqrt(static_cast<double>(kCount));
    EXPECT_GT(mean, 1 - 0.2 * error);
    EXPECT_LT(mean, 1.25 + 0.2 * error);
    EXPECT_NEAR(sum[2], 1, error * std::sqrt(2.0));
    EXPECT_NEAR(sum[3], 0, error * std::sqrt(15.0));
    EXPECT_NEAR(sum[4], 3, error * std::sqrt(96.0));
    // 0.0026998 and 0.00006334 of a normal lie outside 3 and 4 deviations.
    EXPECT_NEAR(beyond3, 1079.9, 4 * std::sqrt(1079.9));
    EXPECT_NEAR(beyond4, 25.3, 4 * std::sqrt(25.3));
    // U(mu - 0.1, mu + 0.1), |mu| <= 0.5, independent of the scale.
    EXPECT_LE(highest - lowest, 0.2 + 1e-6);
    EXPECT_GT(highest - lowest, 0.2 - 1e-5);
    EXPECT_LE(std::max(std::abs(lowest), std::abs(highest)), 0.6 + 1e-6);
    EXPECT_NEAR(shift_squares, 0.04 / 12, 0.04 / 12 * error);
    EXPECT_NEAR(product, 0, error * std::sqrt(0.04 / 12 + shift_sum * shift_sum));
  }
}

TEST(ChannelNoiseTest, ChannelsDrawTheirOwnMeansAndDeviations) {
  // 500 channels at 8 steps; their averages over 400 values give mu_j and sigma_j back.
  std::vector<double> mus, sigmas;
  for (uint64_t step = 0; step < 8; ++step) {
    const Draws draws = Draw(5, "bn1", step, {1, 500, 400, 1});
    for (size_t c = 0; c < 500; ++c) {
      double mu = 0, sigma = 0;
      for (size_t a = 0; a < 400; ++a) {
        mu += static_cast<double>(draws.shift[c * 400 + a]) / 400;
        sigma += static_cast<double>(draws.scale[c * 400 + a]) / 400;
      }
      mus.push_back(mu);
      sigmas.push_back(sigma);
    }
  }
  const auto check = [](std::vector<double> values, double low, double high, double noise) {
    std::sort(values.begin(), values.end());
    // Kolmogorov and Smirnov: 1.95/sqrt(4000) at p = 1e-3; the rest is the error of an average.
    for (size_t i = 0; i < values.size(); ++i) {
      const double expected = (static_cast<double>(i) + 0.5) / static_cast<double>(values.size());
      EXPECT_NEAR((values[i] - low) / (high - low), expected, 0.031 + noise / (high - low));
    }
  };
  check(mus, -0.5, 0.5, 4 * 0.0577 / 20);
  check(sigmas, 1, 1.25, 4 * 0.2 / 20);
}

TEST(ChannelNoiseTest, ChangesWithSeedLayerAndStepOnly) {
  const ChannelBlocking layout = {3, 5, 20, 8};
  const Draws draws = Draw(5, "bn1", 7, layout);
  EXPECT_EQ(draws.scale, Draw(5, "bn1", 7, layout).scale);
  EXPECT_NE(draws.scale, Draw(6, "bn1", 7, layout).scale);
  EXPECT_NE(draws.scale, Draw(5, "bn2", 7, layout).scale);
  EXPECT_NE(draws.scale, Draw(5, "bn1", 8, layout).scale);
  // No value is drawn twice (floats near 1 are 1e-7 apart: a few of 300 may collide, not many).
  const std::vector<float> plain = Draw(5, "bn1", 7, {3, 5, 20, 1}).scale;
  EXPECT_GT(std::set<float>(plain.begin(), plain.end()).size(), 297U);
}

TEST(ChannelNoiseTest, DoesNotDependOnThreads) {
  const int threads = omp_get_max_threads();
  omp_set_num_threads(1);
  const Draws one = Draw(5, "bn1", 7, {5, 33, 300, 16});
  omp_set_num_threads(3);
  const Draws three = Draw(5, "bn1", 7, {5, 33, 300, 16});
  omp_set_num_threads(threads);
  EXPECT_EQ(one.scale, three.scale);
  EXPECT_EQ(one.shift, three.shift);
}

}  // namespace
}  // namespace normlab::engine
