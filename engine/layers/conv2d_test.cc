#include <cstdint>
#include <optional>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "engine/dnnl/runtime.h"
#include "engine/layers/reference.h"
#include "engine/layers/testing.h"

namespace normlab::engine {
namespace {

using ::testing::ElementsAre;
using testing::kBf16Tolerance;
using testing::kFloatTolerance;
using testing::LayerHarness;
using testing::Random;
using testing::RandomBf16;
using testing::RelativeError;
using testing::Tensor;

ConvNode NodeOf(const reference::ConvShape& shape, bool bias) {
  return {.out_channels = shape.out_channels,
          .kernel = shape.kernel,
          .stride = shape.stride,
          .padding = shape.padding,
          .bias = bias,
          .groups = shape.groups};
}

TEST(Conv2dTest, HandCase) {
  LayerHarness harness(
      {1, 2, 3}, ConvNode{.out_channels = 1, .kernel = 2, .stride = 1, .padding = 1, .bias = true},
      1);
  ASSERT_TRUE(harness.status().ok()) << harness.status();
  harness.Set("weight", {0, 0, 1, 0});
  harness.Set("bias", {0.5});
  EXPECT_THAT(harness.Forward({1, 2, 3, 4, 5, 6}),
              ElementsAre(0.5, 1.5, 2.5, 3.5, 0.5, 4.5, 5.5, 6.5, 0.5, 0.5, 0.5, 0.5));
}

TEST(Conv2dTest, MatchesReferenceInBothModes) {
  // {N, I, H, W}, O, kernel, stride, padding
  const reference::ConvShape shapes[] = {
      {{1, 1, 5, 7}, 1, 3, 1, 1},
      {{2, 1, 9, 6}, 16, 3, 1, 1},
      {{3, 3, 8, 11}, 5, 3, 2, 1},
      {{2, 5, 7, 10}, 17, 5, 1, 2},
      {{7, 16, 6, 5}, 32, 3, 1, 1},
      {{2, 13, 9, 4}, 24, 1, 1, 0},
      {{4, 16, 5, 9}, 16, 3, 2, 0},
      {{1, 33, 4, 6}, 8, 3, 1, 2},
      {{3, 2, 10, 7}, 3, 4, 3, 1},
      {{5, 16, 3, 3}, 20, 3, 1, 0},
      {{2, 3, 12, 5}, 32, 5, 2, 2},
      {{2, 32, 7, 6}, 31, 3, 1, 1},
      // Groups of odd, of even and of whole blocks of channels; one channel each (depthwise).
      {{3, 6, 7, 5}, 9, 3, 2, 1, 3},
      {{2, 32, 6, 7}, 64, 3, 1, 1, 2},
      {{2, 12, 5, 8}, 8, 5, 1, 2, 4},
      {{4, 16, 9, 6}, 16, 3, 1, 1, 16},
      {{2, 5, 8, 7}, 15, 3, 2, 0, 5}};
  for (const auto& shape : shapes) {
    for (const bool bias : {true, false}) {
      SCOPED_TRACE(::testing::Message()
                   << "N" << shape.in.batch << " I" << shape.in.channels << " H" << shape.in.height
                   << " W" << shape.in.width << " O" << shape.out_channels << " K" << shape.kernel
                   << " S" << shape.stride << " P" << shape.padding << " G" << shape.groups
                   << " bias " << bias);
      const Tensor x = Random("x", shape.in.count());
      const Tensor w = Random(
          "w", shape.out_channels * shape.in.channels / shape.groups * shape.kernel * shape.kernel);
      const Tensor b = bias ? Random("b", shape.out_channels) : Tensor();
      const Tensor d_y = Random("d", shape.out().count());
      const Tensor y = reference::ConvForward(shape, x, w, b);
      for (const Mode mode : {Mode::kTraining, Mode::kEvaluation}) {
        LayerHarness harness({shape.in.channels, shape.in.height, shape.in.width},
                             NodeOf(shape, bias), shape.in.batch, mode);
        ASSERT_TRUE(harness.status().ok()) << harness.status();
        harness.Set("weight", w);
        if (bias) {
          harness.Set("bias", b);
        }
        EXPECT_LT(RelativeError(harness.Forward(x), y), kFloatTolerance);
        if (mode == Mode::kEvaluation) {
          continue;
        }
        const reference::WeightGradients d = reference::ConvBackward(shape, x, w, d_y);
        EXPECT_LT(RelativeError(harness.Backward(d_y), d.d_x), kFloatTolerance);
        EXPECT_LT(RelativeError(harness.Gradient("weight"), d.d_w), kFloatTolerance);
        if (bias) {
          EXPECT_LT(RelativeError(harness.Gradient("bias"), d.d_b), kFloatTolerance);
        }
      }
    }
  }
}

TEST(Conv2dTest, FollowsChangedWeights) {
  const reference::ConvShape shape = {{3, 16, 6, 5}, 32, 3, 1, 1};
  LayerHarness harness({16, 6, 5}, NodeOf(shape, false), 3);
  ASSERT_TRUE(harness.status().ok()) << harness.status();
  const Tensor x = Random("x", shape.in.count());
  const Tensor d_y = Random("d", shape.out().count());
  for (const char* name : {"first", "second"}) {
    const Tensor w = Random(name, 32 * 16 * 9);
    harness.Set("weight", w);
    EXPECT_LT(RelativeError(harness.Forward(x), reference::ConvForward(shape, x, w, {})),
              kFloatTolerance);
    EXPECT_LT(RelativeError(harness.Backward(d_y), reference::ConvBackward(shape, x, w, d_y).d_x),
              kFloatTolerance);
  }
}

// F(4x4, 3x3) multiplies inputs by up to 5 and outputs by up to 8 and subtracts large numbers: Lavin
// and Gray (2016) find errors about 10 times those of the direct sum.
constexpr double kWinogradTolerance = 1e-4;

bool Mentions(const LayerHarness& harness, absl::string_view pass, absl::string_view what) {
  for (const ImplementationChoice& choice : harness.choices()) {
    if (choice.pass == pass && absl::StrContains(choice.implementation, what)) {
      return true;
    }
  }
  return false;
}

// Shapes for which Winograd exists: whole tiles and parts of them, a single pixel row, 2x2 images,
// channels that fill no block.
const reference::ConvShape kWinogradShapes[] = {{{2, 32, 8, 12}, 48, 3, 1, 1},
                                                {{3, 64, 5, 7}, 32, 3, 1, 1},
                                                {{5, 32, 2, 2}, 64, 3, 1, 1},
                                                {{1, 35, 9, 4}, 33, 3, 1, 1},
                                                {{2, 16, 6, 1}, 16, 3, 1, 1}};

TEST(Conv2dTest, EveryPolicyComputesTheSame) {
  for (const auto& shape : kWinogradShapes) {
    const Tensor x = Random("x", shape.in.count());
    const Tensor w = Random("w", shape.out_channels * shape.in.channels * 9);
    const Tensor b = Random("b", shape.out_channels);
    const Tensor d_y = Random("d", shape.out().count());
    const Tensor y = reference::ConvForward(shape, x, w, b);
    const reference::WeightGradients d = reference::ConvBackward(shape, x, w, d_y);
    for (const ConvolutionPolicy policy :
         {ConvolutionPolicy::kAuto, ConvolutionPolicy::kDirect, ConvolutionPolicy::kWinograd,
          ConvolutionPolicy::kMeasure}) {
      SCOPED_TRACE(::testing::Message()
                   << "I" << shape.in.channels << " H" << shape.in.height << " W" << shape.in.width
                   << " O" << shape.out_channels << " policy " << static_cast<int>(policy));
      LayerHarness harness({shape.in.channels, shape.in.height, shape.in.width},
                           NodeOf(shape, true), shape.in.batch, Mode::kTraining, std::nullopt,
                           {.convolution = policy});
      ASSERT_TRUE(harness.status().ok()) << harness.status();
      harness.Set("weight", w);
      harness.Set("bias", b);
      const double tolerance =
          policy == ConvolutionPolicy::kDirect ? kFloatTolerance : kWinogradTolerance;
      EXPECT_LT(RelativeError(harness.Forward(x), y), tolerance);
      EXPECT_LT(RelativeError(harness.Backward(d_y), d.d_x), tolerance);
      EXPECT_LT(RelativeError(harness.Gradient("weight"), d.d_w), tolerance);
      EXPECT_LT(RelativeError(harness.Gradient("bias"), d.d_b), tolerance);
    }
  }
}

TEST(Conv2dTest, PoliciesDecideAndChoicesAreRecorded) {
  const Dims in = {64, 8, 8};
  const ConvNode conv = {.out_channels = 64, .bias = false};
  const ConvNode strided = {.out_channels = 64, .stride = 2, .bias = false};
  LayerHarness direct(in, conv, 4, Mode::kTraining, std::nullopt,
                      {.convolution = ConvolutionPolicy::kDirect});
  LayerHarness winograd(in, conv, 4, Mode::kTraining, std::nullopt,
                        {.convolution = ConvolutionPolicy::kWinograd});
  LayerHarness automatic(in, conv, 4);
  LayerHarness no_choice(in, strided, 4, Mode::kTraining, std::nullopt,
                         {.convolution = ConvolutionPolicy::kWinograd});
  ASSERT_TRUE(direct.status().ok() && winograd.status().ok() && automatic.status().ok() &&
              no_choice.status().ok());
  for (const char* pass : {"forward", "backward_data", "backward_weights"}) {
    EXPECT_TRUE(Mentions(direct, pass, "")) << pass << " is recorded";
    EXPECT_FALSE(Mentions(direct, pass, "wino")) << pass;
    EXPECT_FALSE(Mentions(no_choice, pass, "wino")) << pass;
    EXPECT_EQ(Mentions(winograd, pass, "wino"), HasWinograd()) << pass;
    EXPECT_EQ(Mentions(automatic, pass, "wino"), HasWinograd()) << pass;
  }
}

TEST(Conv2dTest, Bf16RoundsDataAndKeepsGradientsOfWeightsInFloat) {
  if (!HasBf16Kernels()) {
    LayerHarness harness({16, 4, 4}, ConvNode{.out_channels = 16}, 2, Mode::kTraining, std::nullopt,
                         {.type = DataType::kBf16});
    if (!harness.status().ok()) {
      EXPECT_EQ(harness.status().code(), absl::StatusCode::kUnimplemented);
      GTEST_SKIP() << "no bf16 kernels here";
    }
  }
  const reference::ConvShape shapes[] = {{{2, 3, 8, 11}, 16, 3, 1, 1},
                                         {{3, 16, 6, 5}, 33, 3, 2, 1},
                                         {{2, 13, 9, 4}, 24, 1, 1, 0},
                                         {{5, 32, 2, 2}, 64, 3, 1, 1},
                                         {{2, 64, 8, 8}, 32, 3, 1, 1}};
  for (const auto& shape : shapes) {
    for (const ConvolutionPolicy policy :
         {ConvolutionPolicy::kAuto, ConvolutionPolicy::kDirect, ConvolutionPolicy::kMeasure}) {
      SCOPED_TRACE(::testing::Message()
                   << "I" << shape.in.channels << " H" << shape.in.height << " W" << shape.in.width
                   << " O" << shape.out_channels << " policy " << static_cast<int>(policy));
      const Tensor x = RandomBf16("x", shape.in.count());
      const Tensor w =
          RandomBf16("w", shape.out_channels * shape.in.channels * shape.kernel * shape.kernel);
      const Tensor b = Random("b", shape.out_channels);
      const Tensor d_y = RandomBf16("d", shape.out().count());
      LayerHarness harness({shape.in.channels, shape.in.height, shape.in.width},
                           NodeOf(shape, true), shape.in.batch, Mode::kTraining, std::nullopt,
                           {.type = DataType::kBf16, .convolution = policy});
      ASSERT_TRUE(harness.status().ok()) << harness.status();
      harness.Set("weight", w);
      harness.Set("bias", b);
      EXPECT_LT(RelativeError(harness.Forward(x), reference::ConvForward(shape, x, w, b)),
                kBf16Tolerance);
      const reference::WeightGradients d = reference::ConvBackward(shape, x, w, d_y);
      EXPECT_LT(RelativeError(harness.Backward(d_y), d.d_x), kBf16Tolerance);
      // Of numbers that bf16 has exactly, so only single-precision sums are left.
      EXPECT_LT(RelativeError(harness.Gradient("weight"), d.d_w), kWinogradTolerance);
      EXPECT_LT(RelativeError(harness.Gradient("bias"), d.d_b), kFloatTolerance);
    }
  }
}

}  // namespace
}  // namespace normlab::engine
