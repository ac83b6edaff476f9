#include <cstdint>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "engine/layers/reference.h"
#include "engine/layers/testing.h"

namespace normlab::engine {
namespace {

using ::testing::ElementsAre;
using testing::kFloatTolerance;
using testing::LayerHarness;
using testing::Random;
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

}  // namespace
}  // namespace normlab::engine
