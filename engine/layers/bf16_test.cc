// Layers that are not convolutions, on bf16 data.
#include <cstdint>
#include <optional>

#include "gtest/gtest.h"

#include "engine/dnnl/runtime.h"
#include "engine/layers/reference.h"
#include "engine/layers/testing.h"

namespace normlab::engine {
namespace {

using testing::kBf16Tolerance;
using testing::kFloatTolerance;
using testing::LayerHarness;
using testing::Random;
using testing::RandomBf16;
using testing::RelativeError;
using testing::Tensor;

constexpr PlanOptions kBf16 = {.type = DataType::kBf16};

class Bf16Test : public ::testing::Test {
 protected:
  void SetUp() override {
    // Where the hardware has none, oneDNN may emulate them.
    const LayerHarness probe({16, 4, 4}, ConvNode{.out_channels = 16}, 2, Mode::kTraining,
                             std::nullopt, kBf16);
    if (absl::IsUnimplemented(probe.status())) {
      ASSERT_FALSE(HasBf16Kernels()) << probe.status();
      GTEST_SKIP() << "no bf16 kernels here";
    }
  }
};

TEST_F(Bf16Test, Linear) {
  const reference::LinearShape shapes[] = {{1, 17, 3}, {7, 31, 100}, {60, 129, 47}, {32, 256, 64}};
  for (const auto& shape : shapes) {
    SCOPED_TRACE(::testing::Message() << shape.batch << "x" << shape.in << "->" << shape.out);
    const Tensor x = RandomBf16("x", shape.batch * shape.in);
    const Tensor w = RandomBf16("w", shape.in * shape.out);
    const Tensor b = Random("b", shape.out);
    const Tensor d_y = RandomBf16("d", shape.batch * shape.out);
    for (const Mode mode : {Mode::kTraining, Mode::kEvaluation}) {
      LayerHarness harness({shape.in}, LinearNode{shape.out, true}, shape.batch, mode, std::nullopt,
                           kBf16);
      ASSERT_TRUE(harness.status().ok()) << harness.status();
      harness.Set("weight", w);
      harness.Set("bias", b);
      EXPECT_LT(RelativeError(harness.Forward(x), reference::LinearForward(shape, x, w, b)),
                kBf16Tolerance);
      if (mode == Mode::kEvaluation) {
        continue;
      }
      const reference::WeightGradients d = reference::LinearBackward(shape, x, w, d_y);
      EXPECT_LT(RelativeError(harness.Backward(d_y), d.d_x), kBf16Tolerance);
      EXPECT_LT(RelativeError(harness.Gradient("weight"), d.d_w), kFloatTolerance);
      EXPECT_LT(RelativeError(harness.Gradient("bias"), d.d_b), kFloatTolerance);
    }
  }
}

// Own loops (which compute in F32), oneDNN on dense features and on images.
TEST_F(Bf16Test, BatchNormWithAndWithoutRelu) {
  struct Case {
    Dims in;
    int64_t batch;
  };
  const Case cases[] = {{{33}, 7}, {{272}, 9}, {{16, 6, 3}, 4}, {{5, 13, 11}, 2}};
  // Of d_x: what is left of d_y after two projections, each of rounded numbers.
  constexpr double kGradientTolerance = 3 * kBf16Tolerance;
  for (const Case& c : cases) {
    const reference::NormShape shape = {c.batch, c.in[0], ElementCount(c.in) / c.in[0]};
    const Tensor x = RandomBf16("x", c.batch * ElementCount(c.in));
    const Tensor gamma = Random("gamma", c.in[0]);
    const Tensor beta = Random("beta", c.in[0]);
    Tensor d_y = RandomBf16("d", c.batch * ElementCount(c.in));
    const reference::Statistics statistics = reference::BatchStatistics(shape, x);
    Tensor y = reference::Normalize(shape, 1e-5, x, statistics, gamma, beta);
    for (const bool relu : {false, true}) {
      SCOPED_TRACE(::testing::Message() << DimsToString(c.in) << " relu " << relu);
      LayerHarness harness(c.in, BatchNormNode{}, c.batch, Mode::kTraining,
                           relu ? std::optional(ActivationKind::kRelu) : std::nullopt, kBf16);
      ASSERT_TRUE(harness.status().ok()) << harness.status();
      ASSERT_EQ(harness.fused(), relu);
      harness.Set("weight", gamma);
      harness.Set("bias", beta);
      Tensor expected = y;
      Tensor d_normalized = d_y;
      if (relu) {
        d_normalized = reference::ActivationBackward(ActivationKind::kRelu, y, d_y);
        expected = reference::ActivationForward(ActivationKind::kRelu, y);
      }
      EXPECT_LT(RelativeError(harness.Forward(x), expected), kBf16Tolerance);
      const reference::NormGradients d =
          reference::BatchNormBackward(shape, 1e-5, x, gamma, d_normalized);
      EXPECT_LT(RelativeError(harness.Backward(d_y), d.d_x), kGradientTolerance);
      // Statistics and sums are in float.
      EXPECT_LT(RelativeError(harness.Gradient("weight"), d.d_gamma), 10 * kFloatTolerance);
      EXPECT_LT(RelativeError(harness.Gradient("bias"), d.d_beta), 10 * kFloatTolerance);
    }
  }
}

TEST_F(Bf16Test, Pooling) {
  const reference::PoolShape shapes[] = {{{3, 5, 7, 9}, PoolKind::kMax, 3, 2},
                                         {{2, 16, 6, 5}, PoolKind::kMax, 2, 2},
                                         {{2, 17, 4, 8}, PoolKind::kMax, 4, 4}};
  for (reference::PoolShape shape : shapes) {
    for (const PoolKind kind : {PoolKind::kMax, PoolKind::kAverage}) {
      shape.kind = kind;
      LayerHarness harness({shape.in.channels, shape.in.height, shape.in.width},
                           PoolNode{kind, shape.window, shape.stride}, shape.in.batch,
                           Mode::kTraining, std::nullopt, kBf16);
      ASSERT_TRUE(harness.status().ok()) << harness.status();
      const Tensor x = RandomBf16("x", shape.in.count());
      const Tensor d_y = RandomBf16("d", shape.out().count());
      EXPECT_LT(RelativeError(harness.Forward(x), reference::PoolForward(shape, x)),
                kind == PoolKind::kMax ? kFloatTolerance : kBf16Tolerance);
      EXPECT_LT(RelativeError(harness.Backward(d_y), reference::PoolBackward(shape, x, d_y)),
                kBf16Tolerance);
    }
  }
}

}  // namespace
}  // namespace normlab::engine
