// What single normalizers do besides: noise, dynamic tanh, choices, types, refusals.
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "engine/layers/normalization/layer_cases.h"
#include "engine/layers/normalization/normalizer_layers.h"
#include "engine/layers/normalization/testing.h"
#include "engine/layers/testing.h"

namespace normlab::engine {
namespace {

using reference::NormShape;
using reference::SetNormalizer;
using reference::Tensor;
using testing::HarnessOptions;
using ::testing::HasSubstr;
using testing::Inputs;
using testing::kFloatTolerance;
using testing::kGradientTolerance;
using testing::kLayerBatchNorm;
using testing::kLayerEpsilon;
using testing::kLayerShapes;
using testing::LayerHarness;
using testing::LayerShape;
using testing::LayoutsOf;
using testing::Random;
using testing::RelativeError;
using testing::ShapeOf;

std::string ForwardImplementation(const LayerShape& s, int64_t groups, const Layout& layout) {
  LayerHarness harness(s.in, GroupNormNode{.groups = groups}, s.batch,
                       HarnessOptions{.x_layout = layout});
  EXPECT_TRUE(harness.status().ok()) << harness.status();
  for (const ImplementationChoice& choice : harness.choices()) {
    if (choice.layer == "layer" && choice.pass == "forward") {
      return choice.implementation;
    }
  }
  return "";
}

TEST(NormalizerLayersDetailTest, GroupNormTakesOneDnnWhereItIsFaster) {
  const LayerShape small = {{18, 5, 3}, 4}, large = {{18, 9, 8}, 4}, dense = {{272}, 6};
  EXPECT_THAT(ForwardImplementation(small, 3, LayoutsOf(small)[0]), HasSubstr("bnorm"));
  EXPECT_EQ(ForwardImplementation(small, 3, LayoutsOf(small)[1]), "normlab:channels");
  EXPECT_EQ(ForwardImplementation(large, 3, LayoutsOf(large)[0]), "normlab:channels");
  EXPECT_EQ(ForwardImplementation(dense, 4, LayoutsOf(dense)[0]), "normlab:rows");
  EXPECT_THAT(ForwardImplementation(dense, 8, LayoutsOf(dense)[0]), HasSubstr("bnorm"));
  const std::string layer = ForwardImplementation(dense, 1, LayoutsOf(dense)[0]);
  EXPECT_FALSE(layer.empty());
  EXPECT_FALSE(absl::StartsWith(layer, "normlab")) << layer;
}

TEST(NormalizerLayersDetailTest, TakesBf16AndComputesInFloat) {
  const LayerShape s = kLayerShapes[0];
  Tensor x = Inputs(ShapeOf(s));
  for (double& v : x) {
    v = static_cast<double>(FromBf16(ToBf16(static_cast<float>(v))));
  }
  for (const Layout& layout : LayoutsOf(s)) {
    LayerHarness from_bf16(s.in, GroupNormNode{.groups = 3}, s.batch,
                           HarnessOptions{.x_layout = layout.WithType(DataType::kBf16)});
    LayerHarness from_float(s.in, GroupNormNode{.groups = 3}, s.batch,
                            HarnessOptions{.x_layout = layout});
    ASSERT_TRUE(from_bf16.status().ok()) << from_bf16.status();
    for (LayerHarness* harness : {&from_bf16, &from_float}) {
      harness->Set("weight", Random("gamma", s.in[0]));
    }
    EXPECT_EQ(from_bf16.Forward(x), from_float.Forward(x)) << layout.ToString();
    EXPECT_EQ(from_bf16.y_layout().type(), DataType::kF32);
    const Tensor d_y = Random("d", from_float.y_count());
    EXPECT_EQ(from_bf16.Backward(d_y), from_float.Backward(d_y)) << layout.ToString();
  }
}

TEST(NormalizerLayersDetailTest, DynamicTanhMatchesItsReference) {
  for (const LayerShape& s : kLayerShapes) {
    for (const Layout& layout : LayoutsOf(s)) {
      SCOPED_TRACE(layout.ToString());
      const NormShape shape = ShapeOf(s);
      LayerHarness harness(s.in, DynamicTanhNode{}, s.batch, HarnessOptions{.x_layout = layout});
      ASSERT_TRUE(harness.status().ok()) << harness.status();
      const Tensor gamma = Random("gamma", s.in[0]), beta = Random("beta", s.in[0]);
      harness.Set("weight", gamma);
      harness.Set("bias", beta);
      harness.Set("alpha", {0.75});
      const Tensor x = Inputs(shape), d_y = Random("d", harness.y_count());
      EXPECT_LT(RelativeError(harness.Forward(x),
                              reference::DynamicTanhForward(shape, 0.75, gamma, beta, x)),
                kFloatTolerance);
      const auto d = reference::DynamicTanhBackward(shape, 0.75, gamma, x, d_y);
      EXPECT_LT(RelativeError(harness.Backward(d_y), d.d_x), kFloatTolerance);
      EXPECT_LT(RelativeError(harness.Gradient("weight"), d.d_gamma), kFloatTolerance);
      EXPECT_LT(RelativeError(harness.Gradient("bias"), d.d_beta), kFloatTolerance);
      EXPECT_LT(RelativeError(harness.Gradient("alpha"), {d.d_alpha}), kFloatTolerance);
    }
  }
}

TEST(NormalizerLayersDetailTest, NoisyBatchNormIsBatchNormAndThenAlgorithm1) {
  constexpr uint32_t kSeed = 17;
  for (const LayerShape& s : kLayerShapes) {
    for (const Layout& layout : LayoutsOf(s)) {
      for (const bool normalize : {true, false}) {
        SCOPED_TRACE(absl::StrCat(layout.ToString(), " normalize ", normalize));
        const NormShape shape = ShapeOf(s);
        LayerHarness harness(
            s.in, NoisyBatchNormNode{.batch = kLayerBatchNorm, .normalize = normalize}, s.batch,
            HarnessOptions{.next = ActivationKind::kRelu, .x_layout = layout, .seed = kSeed});
        ASSERT_TRUE(harness.status().ok()) << harness.status();
        EXPECT_FALSE(harness.fused()) << "the noise comes before the activation";
        SetNormalizer expected = {shape, reference::BatchSets(shape, s.batch), true,
                                  reference::Divisor::kDeviation, kLayerEpsilon};
        expected.gamma = Random("gamma", s.in[0]);
        expected.beta = Random("beta", s.in[0]);
        if (normalize) {
          harness.Set("weight", expected.gamma);
          harness.Set("bias", expected.beta);
        }
        const Tensor x = Inputs(shape), d_y = Random("d", harness.y_count());
        for (const int64_t step : {5, 6}) {
          harness.run().step = step;
          const reference::Noise noise = reference::DrawNoise(
              kSeed, "layer", static_cast<uint64_t>(step), shape, {0.5, 1.25, 0.1, 0.1});
          Tensor y = normalize ? reference::Forward(expected, x) : x;
          Tensor d_quiet = d_y;
          for (size_t i = 0; i < y.size(); ++i) {
            y[i] = noise.scale[i] * y[i] + noise.shift[i];
            d_quiet[i] *= noise.scale[i];
          }
          EXPECT_LT(RelativeError(harness.Forward(x), y), kFloatTolerance);
          const Tensor d_x = harness.Backward(d_y);
          if (!normalize) {
            EXPECT_LT(RelativeError(d_x, d_quiet), kFloatTolerance);
            continue;
          }
          const auto d = reference::Backward(expected, x, d_quiet);
          EXPECT_LT(RelativeError(d_x, d.d_x), kGradientTolerance);
          EXPECT_LT(RelativeError(harness.Gradient("weight"), d.d_gamma), kGradientTolerance);
          EXPECT_LT(RelativeError(harness.Gradient("bias"), d.d_beta), kFloatTolerance);
        }
      }
    }
  }
}

TEST(NormalizerLayersDetailTest, EvaluationHasNoNoise) {
  const LayerShape s = kLayerShapes[0];
  LayerHarness noisy(s.in, NoisyBatchNormNode{.batch = kLayerBatchNorm}, s.batch,
                     Mode::kEvaluation);
  LayerHarness quiet(s.in, kLayerBatchNorm, s.batch, Mode::kEvaluation);
  LayerHarness nothing(s.in, NoisyBatchNormNode{.normalize = false}, s.batch, Mode::kEvaluation);
  for (LayerHarness* harness : {&noisy, &quiet}) {
    ASSERT_TRUE(harness->status().ok()) << harness->status();
    harness->Set("weight", Random("gamma", 18));
    harness->Set("running_var", Tensor(18, 2.0));
  }
  const Tensor x = Inputs(ShapeOf(s));
  EXPECT_EQ(noisy.Forward(x), quiet.Forward(x));
  EXPECT_EQ(nothing.Forward(x), x);
}

TEST(NormalizerLayersDetailTest, SetsOfOneValueAreRefusedWithTheLayersName) {
  const auto message = [](const Dims& in, NodeKind kind, int64_t batch, Mode mode) {
    const LayerHarness harness(in, std::move(kind), batch, mode);
    EXPECT_EQ(harness.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(harness.status().message());
  };
  for (const Mode mode : {Mode::kTraining, Mode::kEvaluation}) {
    EXPECT_THAT(message({6}, GroupNormNode{.groups = 6}, 4, mode),
                HasSubstr("layer layer: instance norm cannot normalize one value"));
    EXPECT_THAT(message({6, 1, 1}, GroupNormNode{.groups = 6}, 4, mode), HasSubstr("layer norm"));
    EXPECT_THAT(message({1}, GroupNormNode{}, 4, mode), HasSubstr("layer layer"));
  }
  const NodeKind over_batch[] = {GhostBatchNormNode{kLayerBatchNorm, 1},
                                 BatchRenormNode{kLayerBatchNorm}, LpBatchNormNode{},
                                 MeanOnlyBatchNormNode{}};
  for (const NodeKind& kind : over_batch) {
    EXPECT_THAT(message({6}, kind, 1, Mode::kTraining), HasSubstr("one value per channel"));
    EXPECT_TRUE(LayerHarness({6}, kind, 1, Mode::kEvaluation).status().ok());
  }
  EXPECT_THAT(message({6}, GhostBatchNormNode{kLayerBatchNorm, 4}, 6, Mode::kTraining),
              HasSubstr("ghost batches of 4 examples do not divide a batch of 6"));
  EXPECT_TRUE(LayerHarness({6}, GhostBatchNormNode{kLayerBatchNorm, 4}, 6, Mode::kEvaluation)
                  .status()
                  .ok());
  EXPECT_TRUE(LayerHarness({6, 1, 2}, LpBatchNormNode{}, 1).status().ok());
}

}  // namespace
}  // namespace normlab::engine
