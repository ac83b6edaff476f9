// Weight norm and weight standardization inside linear layers and convolutions.
#include "engine/layers/layer_weights.h"

#include <cmath>

#include "gtest/gtest.h"

#include "engine/layers/reference_normalizers.h"
#include "engine/layers/testing.h"

namespace normlab::engine {
namespace {

using reference::Tensor;
using testing::kFloatTolerance;
using testing::LayerHarness;
using testing::Random;
using testing::RelativeError;

struct LayerCase {
  const char* name;
  Dims in;
  int64_t batch, outputs, weights;
  NodeKind (*node)(const WeightOptions&);
  reference::ConvShape conv;  // the linear layer is one on a 1x1 image
};

const LayerCase kLayers[] = {{"linear",
                              {7},
                              9,
                              5,
                              35,
                              [](const WeightOptions& options) -> NodeKind {
                                return LinearNode{.out = 5, .weights = options};
                              },
                              {{9, 7, 1, 1}, 5, 1, 1, 0}},
                             {"convolution",
                              {3, 6, 5},
                              4,
                              10,
                              270,
                              [](const WeightOptions& options) -> NodeKind {
                                return ConvNode{
                                    .out_channels = 10, .stride = 2, .weights = options};
                              },
                              {{4, 3, 6, 5}, 10, 3, 2, 1}}};

TEST(LayerWeightsTest, WeightNormMatchesTheReference) {
  for (const LayerCase& c : kLayers) {
    SCOPED_TRACE(c.name);
    LayerHarness harness(c.in, c.node({.transform = WeightTransform::kWeightNorm}), c.batch);
    ASSERT_TRUE(harness.status().ok()) << harness.status();
    const Tensor v = Random("v", c.weights), g = Random("g", c.outputs);
    const Tensor b = Random("b", c.outputs), x = Random("x", harness.x_count());
    const Tensor d_y = Random("d", harness.y_count());
    harness.Set("weight_v", v);
    harness.Set("weight_g", g);
    harness.Set("bias", b);
    const Tensor w = reference::WeightNormForward(c.outputs, v, g);
    EXPECT_LT(RelativeError(harness.Forward(x), reference::ConvForward(c.conv, x, w, b)),
              kFloatTolerance);
    const auto d = reference::ConvBackward(c.conv, x, w, d_y);
    const auto d_parameters = reference::WeightNormBackward(c.outputs, v, g, d.d_w);
    EXPECT_LT(RelativeError(harness.Backward(d_y), d.d_x), kFloatTolerance);
    EXPECT_LT(RelativeError(harness.Gradient("weight_v"), d_parameters.d_v), kFloatTolerance);
    EXPECT_LT(RelativeError(harness.Gradient("weight_g"), d_parameters.d_g), kFloatTolerance);
    EXPECT_LT(RelativeError(harness.Gradient("bias"), d.d_b), kFloatTolerance);
  }
}

TEST(LayerWeightsTest, WeightStandardizationMatchesTheReference) {
  for (const LayerCase& c : kLayers) {
    SCOPED_TRACE(c.name);
    LayerHarness harness(c.in, c.node({.transform = WeightTransform::kStandardization}), c.batch);
    ASSERT_TRUE(harness.status().ok()) << harness.status();
    const Tensor v = Random("v", c.weights), x = Random("x", harness.x_count());
    const Tensor d_y = Random("d", harness.y_count());
    harness.Set("weight", v);
    const Tensor w = reference::WeightStandardizationForward(c.outputs, v);
    EXPECT_LT(RelativeError(harness.Forward(x), reference::ConvForward(c.conv, x, w, {})),
              kFloatTolerance);
    const auto d = reference::ConvBackward(c.conv, x, w, d_y);
    EXPECT_LT(RelativeError(harness.Backward(d_y), d.d_x), kFloatTolerance);
    EXPECT_LT(RelativeError(harness.Gradient("weight"),
                            reference::WeightStandardizationBackward(c.outputs, v, d.d_w)),
              kFloatTolerance);
  }
}

TEST(LayerWeightsTest, TheFirstBatchSetsGainAndBias) {
  for (const LayerCase& c : kLayers) {
    SCOPED_TRACE(c.name);
    LayerHarness harness(
        c.in, c.node({.transform = WeightTransform::kWeightNorm, .data_dependent_init = true}),
        c.batch);
    ASSERT_TRUE(harness.status().ok()) << harness.status();
    harness.Set("weight_v", Random("v", c.weights));
    // Whatever was there before does not matter.
    harness.Set("weight_g", Random("g", c.outputs));
    harness.Set("bias", Random("b", c.outputs));
    const Tensor x = Random("x", harness.x_count());
    const Tensor y = harness.ForwardInitializing(x);
    const reference::NormShape shape = {c.batch, c.outputs,
                                        static_cast<int64_t>(y.size()) / c.batch / c.outputs};
    const reference::Statistics statistics = reference::BatchStatistics(shape, y);
    EXPECT_LT(RelativeError(statistics.mean, Tensor(statistics.mean.size(), 0.0)), 1e-6);
    EXPECT_LT(RelativeError(statistics.var, Tensor(statistics.var.size(), 1.0)), 1e-5);
    const Tensor gain = harness.Get("weight_g");
    EXPECT_EQ(harness.Forward(x), y) << "the next pass computes with what was set";
    EXPECT_EQ(harness.Get("weight_g"), gain);
  }
}

TEST(LayerWeightsTest, WithoutDataDependenceTheFirstBatchIsLikeAnyOther) {
  LayerHarness harness({7}, LinearNode{.out = 5, .weights = {WeightTransform::kWeightNorm}}, 9);
  ASSERT_TRUE(harness.status().ok()) << harness.status();
  harness.Set("weight_v", Random("v", 35));
  harness.Set("weight_g", Random("g", 5));
  const Tensor x = Random("x", 63);
  EXPECT_EQ(harness.ForwardInitializing(x), harness.Forward(x));
  EXPECT_EQ(harness.Get("weight_g"), Random("g", 5));
}

}  // namespace
}  // namespace normlab::engine
