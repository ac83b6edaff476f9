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

TEST(LinearTest, HandCase) {
  LayerHarness harness({2}, LinearNode{3, true}, 1);
  ASSERT_TRUE(harness.status().ok()) << harness.status();
  harness.Set("weight", {1, 0, 0, 1, 2, -1});
  harness.Set("bias", {10, 20, 30});
  EXPECT_THAT(harness.Forward({5, 7}), ElementsAre(15, 27, 33));
  EXPECT_THAT(harness.Backward({1, 10, 100}), ElementsAre(201, -90));
  EXPECT_THAT(harness.Gradient("weight"), ElementsAre(5, 7, 50, 70, 500, 700));
  EXPECT_THAT(harness.Gradient("bias"), ElementsAre(1, 10, 100));
}

TEST(LinearTest, MatchesReferenceInBothModes) {
  const reference::LinearShape shapes[] = {{1, 1, 1},   {1, 17, 3},   {2, 3, 5},     {3, 100, 10},
                                           {5, 64, 33}, {7, 31, 100}, {60, 129, 47}, {7, 784, 13}};
  for (const auto& shape : shapes) {
    for (const bool bias : {true, false}) {
      SCOPED_TRACE(::testing::Message()
                   << shape.batch << "x" << shape.in << "->" << shape.out << " bias " << bias);
      const Tensor x = Random("x", shape.batch * shape.in);
      const Tensor w = Random("w", shape.in * shape.out);
      const Tensor b = bias ? Random("b", shape.out) : Tensor();
      const Tensor d_y = Random("d", shape.batch * shape.out);
      const Tensor y = reference::LinearForward(shape, x, w, b);
      for (const Mode mode : {Mode::kTraining, Mode::kEvaluation}) {
        LayerHarness harness({shape.in}, LinearNode{shape.out, bias}, shape.batch, mode);
        ASSERT_TRUE(harness.status().ok()) << harness.status();
        harness.Set("weight", w);
        if (bias) {
          harness.Set("bias", b);
        }
        EXPECT_LT(RelativeError(harness.Forward(x), y), kFloatTolerance);
        if (mode == Mode::kEvaluation) {
          continue;
        }
        const reference::WeightGradients d = reference::LinearBackward(shape, x, w, d_y);
        EXPECT_LT(RelativeError(harness.Backward(d_y), d.d_x), kFloatTolerance);
        EXPECT_LT(RelativeError(harness.Gradient("weight"), d.d_w), kFloatTolerance);
        if (bias) {
          EXPECT_LT(RelativeError(harness.Gradient("bias"), d.d_b), kFloatTolerance);
        }
      }
    }
  }
}

TEST(LinearTest, EvaluationFollowsChangedWeights) {
  // Evaluation may work on a copy of the weights in another layout.
  const reference::LinearShape shape = {5, 64, 48};
  LayerHarness harness({shape.in}, LinearNode{shape.out, false}, shape.batch, Mode::kEvaluation);
  ASSERT_TRUE(harness.status().ok()) << harness.status();
  const Tensor x = Random("x", shape.batch * shape.in);
  for (const char* name : {"first", "second"}) {
    const Tensor w = Random(name, shape.in * shape.out);
    harness.Set("weight", w);
    EXPECT_LT(RelativeError(harness.Forward(x), reference::LinearForward(shape, x, w, {})),
              kFloatTolerance);
  }
}

}  // namespace
}  // namespace normlab::engine
