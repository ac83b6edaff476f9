#include "engine/layers/normalization/weight_normalization.h"

#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "engine/layers/normalization/testing.h"
#include "engine/layers/reference_normalizers.h"
#include "engine/layers/testing.h"

namespace normlab::engine {
namespace {

using reference::NormShape;
using reference::Tensor;
using ::testing::Each;
using testing::Inputs;
using testing::kFloatTolerance;
using testing::Random;
using testing::RelativeError;
using testing::ToFloats;
using testing::ToTensor;

struct Case {
  int64_t outputs, fan_in;
};
const Case kCases[] = {{3, 7}, {1, 2}, {5, 128}, {17, 147}, {10, 4611}};

TEST(WeightNormalizationTest, MatchesTheReference) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(::testing::Message() << c.outputs << "x" << c.fan_in);
    const Tensor v = Inputs({c.outputs, c.fan_in, 1}), g = Random("g", c.outputs);
    const Tensor d_w = Random("d", c.outputs * c.fan_in);
    const std::vector<float> v_floats = ToFloats(v), g_floats = ToFloats(g);
    std::vector<float> d_floats = ToFloats(d_w), w(v.size()), d_v(v.size()), d_g(g.size());
    WeightNormalization layer(c.outputs, c.fan_in);
    layer.Forward(v_floats.data(), g_floats.data(), w.data());
    EXPECT_LT(RelativeError(ToTensor(w), reference::WeightNormForward(c.outputs, v, g)),
              kFloatTolerance);
    layer.Backward(v_floats.data(), g_floats.data(), d_floats.data(), d_v.data(), d_g.data());
    // The reference's d_v is quadratic in fan_in; the large case is held to the closed form alone.
    const reference::WeightNormGradients d = reference::WeightNormBackward(c.outputs, v, g, d_w);
    EXPECT_LT(RelativeError(ToTensor(d_v), d.d_v), kFloatTolerance);
    EXPECT_LT(RelativeError(ToTensor(d_g), d.d_g), kFloatTolerance);
    // grad_v is orthogonal to v.
    for (int64_t o = 0; o < c.outputs; ++o) {
      double dot = 0, v2 = 0, d2 = 0;
      for (int64_t i = o * c.fan_in; i < (o + 1) * c.fan_in; ++i) {
        const auto at = static_cast<size_t>(i);
        dot += v[at] * static_cast<double>(d_v[at]);
        v2 += v[at] * v[at];
        d2 += std::pow(static_cast<double>(d_v[at]), 2);
      }
      EXPECT_LT(std::abs(dot), 1e-5 * std::sqrt(v2 * d2) + 1e-12);
    }
    layer.Backward(v_floats.data(), g_floats.data(), d_floats.data(), d_floats.data(), d_g.data());
    EXPECT_EQ(d_floats, d_v) << "in place";
  }
}

TEST(WeightNormalizationTest, StartsAtTheWeightsWhenGIsTheNorm) {
  const std::vector<float> v = ToFloats(Random("v", 35));
  std::vector<float> g(5), w(35);
  WeightNormalization layer(5, 7);
  layer.Norms(v.data(), g.data());
  layer.Forward(v.data(), g.data(), w.data());
  EXPECT_LT(RelativeError(ToTensor(w), ToTensor(v)), kFloatTolerance);
}

TEST(WeightNormalizationTest, ZeroStaysZero) {
  const std::vector<float> v(6, 0.0F), g(2, 3.0F), d_w(6, 1.0F);
  std::vector<float> w(6, 9), d_v(6, 9), d_g(2, 9);
  WeightNormalization layer(2, 3);
  layer.Forward(v.data(), g.data(), w.data());
  layer.Backward(v.data(), g.data(), d_w.data(), d_v.data(), d_g.data());
  EXPECT_THAT(w, Each(0.0F));
  EXPECT_THAT(d_v, Each(0.0F));
  EXPECT_THAT(d_g, Each(0.0F));
}

TEST(WeightNormalizationTest, DataDependentScaleNormalizesTheOutputs) {
  // Outputs t = mean + std z become g t + b.
  const SetStatistics statistics[] = {{3, 4}, {-1, 0.25}, {5, 0}};
  float g[3], b[3];
  DataDependentScale(statistics, g, b);
  for (int o = 0; o < 2; ++o) {
    const double std = std::sqrt(statistics[o].magnitude);
    EXPECT_NEAR(static_cast<double>(g[o]) * statistics[o].mean + static_cast<double>(b[o]), 0,
                1e-6);
    EXPECT_NEAR(static_cast<double>(g[o]) * std, 1, 1e-6);
  }
  EXPECT_EQ(g[2], 1);
  EXPECT_EQ(b[2], -5);
}

TEST(WeightStandardizerTest, MatchesTheReference) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(::testing::Message() << c.outputs << "x" << c.fan_in);
    const Tensor v = Inputs({c.outputs, c.fan_in, 1}), d_w = Random("d", c.outputs * c.fan_in);
    const std::vector<float> v_floats = ToFloats(v);
    std::vector<float> d_floats = ToFloats(d_w), w(v.size());
    WeightStandardizer layer(c.outputs, c.fan_in);
    layer.Forward(v_floats.data(), w.data());
    EXPECT_LT(RelativeError(ToTensor(w), reference::WeightStandardizationForward(c.outputs, v)),
              kFloatTolerance);
    layer.Backward(v_floats.data(), d_floats.data(), d_floats.data());
    const Tensor d_v = reference::WeightStandardizationBackward(c.outputs, v, d_w);
    if (c.fan_in > 2) {  // with two weights the gradient all but vanishes
      EXPECT_LT(RelativeError(ToTensor(d_floats), d_v), 3 * kFloatTolerance);
    }
    // The mean of the filter has no gradient.
    for (int64_t o = 0; o < c.outputs; ++o) {
      double sum = 0, size = 0;
      for (int64_t i = o * c.fan_in; i < (o + 1) * c.fan_in; ++i) {
        sum += static_cast<double>(d_floats[static_cast<size_t>(i)]);
        size += std::abs(d_w[static_cast<size_t>(i)]);
      }
      EXPECT_LT(std::abs(sum), kFloatTolerance * size);
    }
  }
}

TEST(WeightStandardizerTest, AConstantFilterIsZeroAndFinite) {
  const std::vector<float> v(6, 0.3F), d_w = {1, 2, 3, 4, 5, 6};
  std::vector<float> w(6, 9), d_v(6, 9);
  WeightStandardizer layer(2, 3);
  layer.Forward(v.data(), w.data());
  layer.Backward(v.data(), d_w.data(), d_v.data());
  EXPECT_THAT(w, Each(0.0F));
  EXPECT_NEAR(d_v[0], -1e5, 1) << "d_w minus its mean, over 1e-5";
}

}  // namespace
}  // namespace normlab::engine
