#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "engine/layers/reference.h"
#include "engine/layers/testing.h"

namespace normlab::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::kFloatTolerance;
using testing::LayerHarness;
using testing::Random;
using testing::RelativeError;
using testing::Tensor;

// A cancellation: d_x is what is left of d_y after its mean and its projection on xh are taken
// away.
constexpr double kGradientTolerance = 3e-5;

struct Case {
  Dims in;
  int64_t batch;
};

// Sets of two values, whose gradient vanishes, have a test of their own. Own loops (narrow or odd
// widths; the last but one in parallel), oneDNN on dense features, oneDNN on images.
const Case kCases[] = {{{1}, 3},        {{5}, 3},        {{33}, 7},       {{100}, 60},
                       {{129}, 5},      {{131}, 300},    {{272}, 6},      {{512}, 129},
                       {{3, 5, 7}, 1},  {{3, 1, 1}, 5},  {{16, 6, 3}, 4}, {{17, 4, 5}, 7},
                       {{32, 1, 2}, 3}, {{5, 13, 11}, 2}};

reference::NormShape ShapeOf(const Case& c) {
  return {c.batch, c.in[0], ElementCount(c.in) / c.in[0]};
}

// Inputs with other means and scales in every channel, so that a statistic over the wrong axis
// fails.
Tensor Inputs(const reference::NormShape& shape) {
  Tensor x = Random("x", shape.batch * shape.channels * shape.area);
  for (int64_t n = 0; n < shape.batch; ++n) {
    for (int64_t c = 0; c < shape.channels; ++c) {
      for (int64_t a = 0; a < shape.area; ++a) {
        double& v = x[static_cast<size_t>(shape.at(n, c, a))];
        v = static_cast<float>(v * (0.5 + static_cast<double>(c % 7) / 3) +
                               static_cast<double>(c % 5) - 2);
      }
    }
  }
  return x;
}

TEST(BatchNormTest, HandCase) {
  LayerHarness harness({1}, BatchNormNode{.epsilon = 0}, 4);
  ASSERT_TRUE(harness.status().ok()) << harness.status();
  harness.Set("weight", {2});
  harness.Set("bias", {3});
  harness.Set("running_var", {1});
  const double s = std::sqrt(1.25);
  EXPECT_LT(RelativeError(harness.Forward({-1.5, -0.5, 0.5, 1.5}),
                          {3 - 3 / s, 3 - 1 / s, 3 + 1 / s, 3 + 3 / s}),
            kFloatTolerance);
  // Biased variance 1.25 normalizes; unbiased 5/3 goes to the running variance.
  EXPECT_LT(RelativeError(harness.Get("running_var"), {0.9 + 0.1 * 5 / 3}), kFloatTolerance);
}

TEST(BatchNormTest, TrainingMatchesReference) {
  for (const Case& c : kCases) {
    for (const bool affine : {true, false}) {
      const reference::NormShape shape = ShapeOf(c);
      SCOPED_TRACE(::testing::Message()
                   << c.batch << " x " << DimsToString(c.in) << " affine " << affine);
      const BatchNormNode node = {.epsilon = 1e-3, .running_update_rate = 0.3, .affine = affine};
      LayerHarness harness(c.in, node, c.batch);
      ASSERT_TRUE(harness.status().ok()) << harness.status();
      const Tensor gamma = affine ? Random("gamma", shape.channels) : Tensor();
      const Tensor beta = affine ? Random("beta", shape.channels) : Tensor();
      if (affine) {
        harness.Set("weight", gamma);
        harness.Set("bias", beta);
      }
      reference::Statistics running = {Random("running", shape.channels), Tensor(c.in[0], 2.5)};
      harness.Set("running_mean", running.mean);
      harness.Set("running_var", running.var);

      const Tensor x = Inputs(shape);
      const reference::Statistics batch = reference::BatchStatistics(shape, x);
      EXPECT_LT(RelativeError(harness.Forward(x),
                              reference::Normalize(shape, 1e-3, x, batch, gamma, beta)),
                kFloatTolerance);
      reference::UpdateRunning(shape, 0.3, batch, running);
      EXPECT_LT(RelativeError(harness.Get("running_mean"), running.mean), kFloatTolerance);
      EXPECT_LT(RelativeError(harness.Get("running_var"), running.var), kFloatTolerance);

      const Tensor d_y = Random("d", shape.batch * shape.channels * shape.area);
      const reference::NormGradients d = reference::BatchNormBackward(shape, 1e-3, x, gamma, d_y);
      EXPECT_LT(RelativeError(harness.Backward(d_y), d.d_x), kGradientTolerance);
      if (affine) {
        EXPECT_LT(RelativeError(harness.Gradient("weight"), d.d_gamma), kFloatTolerance);
        EXPECT_LT(RelativeError(harness.Gradient("bias"), d.d_beta), kFloatTolerance);
      }
    }
  }
}

TEST(BatchNormTest, EvaluationUsesRunningStatisticsAndLeavesThem) {
  for (const Case& c : kCases) {
    const reference::NormShape shape = ShapeOf(c);
    SCOPED_TRACE(::testing::Message() << c.batch << " x " << DimsToString(c.in));
    LayerHarness harness(c.in, BatchNormNode{}, c.batch, Mode::kEvaluation);
    ASSERT_TRUE(harness.status().ok()) << harness.status();
    const Tensor gamma = Random("gamma", shape.channels);
    const Tensor beta = Random("beta", shape.channels);
    reference::Statistics running = {Random("running", shape.channels),
                                     Random("var", shape.channels)};
    std::for_each(running.var.begin(), running.var.end(),
                  [](double& v) { v = static_cast<float>(v * v + 0.1); });
    harness.Set("weight", gamma);
    harness.Set("bias", beta);
    harness.Set("running_mean", running.mean);
    harness.Set("running_var", running.var);
    const Tensor x = Inputs(shape);
    EXPECT_LT(RelativeError(harness.Forward(x),
                            reference::Normalize(shape, 1e-5, x, running, gamma, beta)),
              kFloatTolerance);
    EXPECT_EQ(harness.Get("running_mean"), running.mean);
    EXPECT_EQ(harness.Get("running_var"), running.var);
  }
}

TEST(BatchNormTest, FusedActivationEqualsTwoSteps) {
  for (const Case& c : kCases) {
    for (const ActivationKind kind :
         {ActivationKind::kRelu, ActivationKind::kSigmoid, ActivationKind::kTanh}) {
      const reference::NormShape shape = ShapeOf(c);
      SCOPED_TRACE(::testing::Message()
                   << c.batch << " x " << DimsToString(c.in) << " kind " << static_cast<int>(kind));
      LayerHarness harness(c.in, BatchNormNode{}, c.batch, Mode::kTraining, kind);
      ASSERT_TRUE(harness.status().ok()) << harness.status();
      if (!harness.fused()) {
        continue;  // checked to happen where it matters in the next test
      }
      const Tensor gamma = Random("gamma", shape.channels);
      const Tensor beta = Random("beta", shape.channels);
      harness.Set("weight", gamma);
      harness.Set("bias", beta);
      const Tensor x = Inputs(shape);
      const Tensor normalized =
          reference::Normalize(shape, 1e-5, x, reference::BatchStatistics(shape, x), gamma, beta);
      EXPECT_LT(RelativeError(harness.Forward(x), reference::ActivationForward(kind, normalized)),
                kFloatTolerance);
      const Tensor d_y = Random("d", shape.batch * shape.channels * shape.area);
      const reference::NormGradients d = reference::BatchNormBackward(
          shape, 1e-5, x, gamma, reference::ActivationBackward(kind, normalized, d_y));
      EXPECT_LT(RelativeError(harness.Backward(d_y), d.d_x), kGradientTolerance);
      EXPECT_LT(RelativeError(harness.Gradient("weight"), d.d_gamma), kGradientTolerance);
      EXPECT_LT(RelativeError(harness.Gradient("bias"), d.d_beta), kFloatTolerance);
    }
  }
}

TEST(BatchNormTest, FusesWhatItCan) {
  EXPECT_TRUE(
      LayerHarness({16, 5, 5}, BatchNormNode{}, 3, Mode::kTraining, ActivationKind::kRelu).fused());
  EXPECT_FALSE(
      LayerHarness({16, 5, 5}, BatchNormNode{}, 3, Mode::kTraining, ActivationKind::kTanh).fused());
  EXPECT_TRUE(
      LayerHarness({100}, BatchNormNode{}, 60, Mode::kTraining, ActivationKind::kSigmoid).fused());
  EXPECT_TRUE(
      LayerHarness({512}, BatchNormNode{}, 128, Mode::kTraining, ActivationKind::kRelu).fused());
  EXPECT_FALSE(LayerHarness({100}, BatchNormNode{}, 60).fused());
}

TEST(BatchNormTest, IdentitiesOfTheGradient) {
  // Errors of a sum of m float terms of size 1.
  constexpr double kSumTolerance = 1e-4;
  for (const Case& c : kCases) {
    const reference::NormShape shape = ShapeOf(c);
    SCOPED_TRACE(::testing::Message() << c.batch << " x " << DimsToString(c.in));
    LayerHarness harness(c.in, BatchNormNode{.epsilon = 0, .affine = false}, c.batch);
    ASSERT_TRUE(harness.status().ok()) << harness.status();
    const Tensor x = Inputs(shape);
    const Tensor xh = harness.Forward(x);
    const Tensor d_x = harness.Backward(Random("d", static_cast<int64_t>(x.size())));
    const reference::Statistics batch = reference::BatchStatistics(shape, x);
    for (int64_t channel = 0; channel < shape.channels; ++channel) {
      double sum = 0;
      double sum_xh = 0;
      double squares = 0;
      double size = 0;
      for (int64_t n = 0; n < shape.batch; ++n) {
        for (int64_t a = 0; a < shape.area; ++a) {
          const auto i = static_cast<size_t>(shape.at(n, channel, a));
          sum += d_x[i];
          sum_xh += d_x[i] * xh[i];
          squares += xh[i] * xh[i];
          size += 1 / std::sqrt(batch.var[static_cast<size_t>(channel)]);
        }
      }
      EXPECT_NEAR(sum / size, 0, kSumTolerance);
      EXPECT_NEAR(sum_xh / size, 0, kSumTolerance);
      EXPECT_NEAR(squares / static_cast<double>(shape.set()), 1, kSumTolerance);
    }
  }
}

TEST(BatchNormTest, TwoValuesBecomePlusMinusOneAndHaveNoGradient) {
  // A dyadic example, so that float arithmetic is exact: mean 3, variance 4, xh = -1 and 1.
  const Dims shapes[] = {{1}, {1, 1, 2}};
  for (const Dims& in : shapes) {
    LayerHarness harness(in, BatchNormNode{.epsilon = 0, .affine = false}, in.size() == 1 ? 2 : 1);
    ASSERT_TRUE(harness.status().ok()) << harness.status();
    EXPECT_THAT(harness.Forward({1, 5}), ElementsAre(-1, 1));
    EXPECT_THAT(harness.Backward({8, 2}), ElementsAre(0, 0));
  }
}

TEST(BatchNormTest, GradientsThatIgnoreStatisticsAreFarOutsideTheTolerance) {
  const reference::NormShape shape = {7, 5, 6};
  const Tensor x = Inputs(shape);
  const Tensor d_y = Random("d", 210);
  const Tensor right = reference::BatchNormBackward(shape, 1e-5, x, {}, d_y).d_x;
  const reference::Statistics batch = reference::BatchStatistics(shape, x);
  Tensor wrong = d_y;
  for (size_t i = 0; i < wrong.size(); ++i) {
    wrong[i] /= std::sqrt(batch.var[i / 6 % 5] + 1e-5);
  }
  EXPECT_GT(RelativeError(wrong, right), 1000 * kGradientTolerance);
}

// A ReLU fused by oneDNN turns NaN into 0, so that a run that overflowed would look healthy.
TEST(BatchNormTest, WhatIsNotFiniteIsNotLostInAFusedActivation) {
  for (const Dims& in : {Dims{16, 5, 3}, Dims{272}, Dims{7}}) {
    for (const Mode mode : {Mode::kTraining, Mode::kEvaluation}) {
      for (const double bad :
           {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
        if (mode == Mode::kEvaluation && std::isinf(bad)) {
          continue;  // stays infinite by the formula
        }
        LayerHarness harness(in, BatchNormNode{}, 6, mode, ActivationKind::kRelu);
        ASSERT_TRUE(harness.status().ok()) << harness.status();
        ASSERT_TRUE(harness.fused());
        Tensor x = Random("x", harness.x_count());
        x[x.size() / 2] = bad;
        const Tensor y = harness.Forward(x);
        EXPECT_TRUE(harness.saw_nan() ||
                    std::any_of(y.begin(), y.end(), [](double v) { return std::isnan(v); }))
            << in.size() << " dimensions, " << bad;
      }
    }
  }
}

TEST(BatchNormTest, OneValuePerChannelIsRefusedInTrainingOnly) {
  const Dims shapes[] = {{6}, {6, 1, 1}};
  for (const Dims& in : shapes) {
    LayerHarness refused(in, BatchNormNode{}, 1);
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(refused.status().message()),
                HasSubstr("layer layer: batch norm cannot train"));
    EXPECT_TRUE(LayerHarness(in, BatchNormNode{}, 1, Mode::kEvaluation).status().ok());
  }
  EXPECT_TRUE(LayerHarness({6, 1, 2}, BatchNormNode{}, 1).status().ok());
}

}  // namespace
}  // namespace normlab::engine
