// Every normalizer as a layer, in every layout that convolutions produce, against its reference.
#include "engine/layers/normalization/normalizer_layers.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "engine/layers/normalization/layer_cases.h"
#include "engine/layers/normalization/testing.h"
#include "engine/layers/reference_normalizers.h"
#include "engine/layers/testing.h"

namespace normlab::engine {
namespace {

using reference::Divisor;
using reference::NormShape;
using reference::SetNormalizer;
using reference::Tensor;
using testing::HarnessOptions;
using testing::Inputs;
using testing::kFloatTolerance;
using testing::kGradientTolerance;
using testing::kLayerBatchNorm;
using testing::kLayerEpsilon;
using testing::kLayerRate;
using testing::kLayerShapes;
using testing::LayerHarness;
using testing::LayerShape;
using testing::LayoutsOf;
using testing::Random;
using testing::RelativeError;
using testing::ShapeOf;

// One normalizer: its node, its reference, and whether it has running statistics.
struct Kind {
  std::string name;
  std::function<NodeKind(const LayerShape&)> node;
  std::function<SetNormalizer(const NormShape&)> reference;
  bool over_batch = false;
};

SetNormalizer Over(const NormShape& s, std::vector<reference::Set> sets) {
  return {s, std::move(sets), true, Divisor::kDeviation, kLayerEpsilon};
}

Kind Group(const char* name, const std::function<int64_t(int64_t channels)>& groups) {
  return {name,
          [=](const LayerShape& s) -> NodeKind {
            return GroupNormNode{.groups = groups(s.in[0]), .epsilon = kLayerEpsilon};
          },
          [=](const NormShape& s) { return Over(s, reference::GroupSets(s, groups(s.channels))); }};
}

Kind Lp(const char* name, LpBatchNormNode::Power power, Divisor divisor) {
  return {name,
          [=](const LayerShape&) -> NodeKind {
            return LpBatchNormNode{power, kLayerBatchNorm};
          },
          [=](const NormShape& s) {
            SetNormalizer norm = Over(s, reference::BatchSets(s, s.batch));
            norm.divisor = divisor;
            return norm;
          },
          true};
}

std::vector<Kind> Kinds() {
  const auto batch_sets = [](const NormShape& s) {
    return Over(s, reference::BatchSets(s, s.batch));
  };
  return {
      Group("layer", [](int64_t) { return 1; }),
      Group("two groups", [](int64_t) { return 2; }),
      Group("groups of two", [](int64_t channels) { return channels / 2; }),
      {"rms", [](const LayerShape&) -> NodeKind { return RmsNormNode{.epsilon = kLayerEpsilon}; },
       [](const NormShape& s) {
         SetNormalizer norm = Over(s, reference::GroupSets(s, 1));
         norm.centred = false;
         norm.divisor = Divisor::kRootMeanSquare;
         return norm;
       }},
      {"filter response",
       [](const LayerShape&) -> NodeKind { return FilterResponseNode{.epsilon = kLayerEpsilon}; },
       [](const NormShape& s) {
         SetNormalizer norm = Over(s, reference::GroupSets(s, s.channels));
         norm.centred = false;
         norm.divisor = Divisor::kRootMeanSquare;
         norm.tau = Random("tau", s.channels);
         return norm;
       }},
      {"ghost batch",
       [](const LayerShape& s) -> NodeKind {
         return GhostBatchNormNode{kLayerBatchNorm, s.batch / 2};
       },
       [](const NormShape& s) { return Over(s, reference::BatchSets(s, s.batch / 2)); }, true},
      {"batch", [](const LayerShape&) -> NodeKind { return kLayerBatchNorm; }, batch_sets, true},
      {"batch renorm",
       [](const LayerShape&) -> NodeKind {
         return BatchRenormNode{kLayerBatchNorm, 1.5, 0.7};
       },
       batch_sets, true},
      Lp("l1 batch", LpBatchNormNode::Power::kOne, Divisor::kMeanAbsolute),
      Lp("l2 batch", LpBatchNormNode::Power::kTwo, Divisor::kRootMeanSquare),
      Lp("linf batch", LpBatchNormNode::Power::kInfinity, Divisor::kMaximumAbsolute),
      {"mean-only batch",
       [](const LayerShape&) -> NodeKind {
         return MeanOnlyBatchNormNode{.running_update_rate = kLayerRate};
       },
       [](const NormShape& s) {
         SetNormalizer norm = Over(s, reference::BatchSets(s, s.batch));
         norm.divisor = Divisor::kOne;
         return norm;
       },
       true},
      {"frozen batch",
       [](const LayerShape&) -> NodeKind { return FrozenBatchNormNode{kLayerBatchNorm}; },
       batch_sets, true},
  };
}

struct Tensors {
  Tensor gamma, beta;
  reference::Statistics running;
};

// Puts parameters and statistics into the layer, and into the reference as far as it has them.
Tensors Prepare(const Kind& kind, LayerHarness& harness, SetNormalizer& expected) {
  const int64_t channels = expected.shape.channels;
  Tensors tensors = {Random("gamma", channels),
                     Random("beta", channels),
                     {Random("mean", channels), Random("var", channels)}};
  for (double& v : tensors.running.var) {
    v = static_cast<double>(static_cast<float>(v * v + 0.3));
  }
  expected.gamma = tensors.gamma;
  expected.beta = tensors.beta;
  const bool has_gamma = kind.name != "mean-only batch";
  const bool has_beta = kind.name != "rms";
  const bool is_lp = kind.name[0] == 'l' && kind.name != "layer";
  if (has_gamma) {
    harness.Set("weight", tensors.gamma);
  } else {
    expected.gamma.clear();
  }
  if (has_beta) {
    harness.Set("bias", tensors.beta);
  } else {
    expected.beta.clear();
  }
  if (!expected.tau.empty()) {
    harness.Set("tau", expected.tau);
  }
  if (kind.over_batch) {
    harness.Set("running_mean", tensors.running.mean);
    if (has_gamma) {
      harness.Set(is_lp ? "running_scale" : "running_var", tensors.running.var);
    }
  }
  return tensors;
}

void CheckTraining(const Kind& kind, const LayerShape& s, const HarnessOptions& options) {
  SetNormalizer expected = kind.reference(ShapeOf(s));
  const Tensor x = Inputs(expected.shape);
  LayerHarness harness(s.in, kind.node(s), s.batch, options);
  ASSERT_TRUE(harness.status().ok()) << harness.status();
  const Tensors tensors = Prepare(kind, harness, expected);
  if (kind.name == "batch renorm") {
    expected.renorm = reference::RenormOf(expected, x, tensors.running, 1.5, 0.7);
  }
  if (kind.name == "frozen batch") {
    expected.given = tensors.running;
  }
  if (harness.fused()) {
    ASSERT_TRUE(expected.tau.empty());
    expected.tau = Tensor(static_cast<size_t>(expected.shape.channels), 0.0);
  }
  const Tensor y = harness.Forward(x);
  EXPECT_FALSE(harness.saw_nan());
  EXPECT_LT(RelativeError(y, reference::Forward(expected, x)), kFloatTolerance);
  const Tensor d_y = Random("d", static_cast<int64_t>(x.size()));
  const reference::NormalizerGradients d = reference::Backward(expected, x, d_y);
  EXPECT_LT(RelativeError(harness.Backward(d_y), d.d_x), kGradientTolerance);
  if (!expected.gamma.empty()) {
    EXPECT_LT(RelativeError(harness.Gradient("weight"), d.d_gamma), kGradientTolerance);
  }
  if (!expected.beta.empty()) {
    EXPECT_LT(RelativeError(harness.Gradient("bias"), d.d_beta), kFloatTolerance);
  }
  if (!expected.tau.empty() && !harness.fused()) {
    EXPECT_LT(RelativeError(harness.Gradient("tau"), d.d_tau), kFloatTolerance);
  }
}

TEST(NormalizerLayersTest, TrainingMatchesTheReferenceInEveryLayout) {
  bool blocked = false;
  for (const Kind& kind : Kinds()) {
    for (const LayerShape& s : kLayerShapes) {
      for (const Layout& layout : LayoutsOf(s)) {
        const auto blocking = layout.channel_blocking();
        ASSERT_TRUE(blocking.has_value());
        blocked |= s.in.size() == 3 && blocking->block > 1 && blocking->block < s.in[0];
        for (const bool relu : {false, true}) {
          SCOPED_TRACE(absl::StrCat(kind.name, " ", layout.ToString(), " relu ", relu));
          HarnessOptions options = {.x_layout = layout};
          if (relu) {
            options.next = ActivationKind::kRelu;
          }
          CheckTraining(kind, s, options);
        }
      }
    }
  }
  EXPECT_TRUE(blocked) << "no convolution wanted blocks of channels";
}

TEST(NormalizerLayersTest, EvaluationUsesRunningStatisticsOrTheExamplesOwn) {
  for (const Kind& kind : Kinds()) {
    for (const LayerShape& s : kLayerShapes) {
      for (const Layout& layout : LayoutsOf(s)) {
        SCOPED_TRACE(absl::StrCat(kind.name, " ", layout.ToString()));
        SetNormalizer expected = kind.reference(ShapeOf(s));
        LayerHarness harness(s.in, kind.node(s), s.batch,
                             HarnessOptions{.mode = Mode::kEvaluation, .x_layout = layout});
        ASSERT_TRUE(harness.status().ok()) << harness.status();
        const Tensors tensors = Prepare(kind, harness, expected);
        if (kind.over_batch) {
          expected.given = tensors.running;
        }
        const Tensor x = Inputs(expected.shape);
        EXPECT_LT(RelativeError(harness.Forward(x), reference::Forward(expected, x)),
                  kFloatTolerance);
        if (kind.over_batch) {
          EXPECT_EQ(harness.Get("running_mean"), tensors.running.mean);
        }
      }
    }
  }
}

TEST(NormalizerLayersTest, RunningStatisticsMoveInTrainingUnlessTheRunSaysNo) {
  const LayerShape s = kLayerShapes[0];
  for (const Kind& kind : Kinds()) {
    if (!kind.over_batch) {
      continue;
    }
    for (const bool update : {true, false}) {
      SCOPED_TRACE(absl::StrCat(kind.name, " update ", update));
      SetNormalizer expected = kind.reference(ShapeOf(s));
      LayerHarness harness(s.in, kind.node(s), s.batch, HarnessOptions{});
      ASSERT_TRUE(harness.status().ok()) << harness.status();
      const Tensors tensors = Prepare(kind, harness, expected);
      harness.run().update_running_statistics = update;
      const Tensor x = Inputs(expected.shape);
      harness.Forward(x);
      const bool moves = update && kind.name != "frozen batch";
      const reference::Statistics running =
          moves ? reference::UpdatedRunning(expected, x, kLayerRate, tensors.running)
                : tensors.running;
      EXPECT_LT(RelativeError(harness.Get("running_mean"), running.mean), kFloatTolerance);
      if (kind.name != "mean-only batch") {
        const bool is_lp = kind.name[0] == 'l';
        EXPECT_LT(RelativeError(harness.Get(is_lp ? "running_scale" : "running_var"), running.var),
                  kFloatTolerance);
      }
    }
  }
}

TEST(NormalizerLayersTest, ImagesInBlocksAreNotReordered) {
  for (const Kind& kind : Kinds()) {
    const LayerShape s = kLayerShapes[0];
    for (const Layout& layout : LayoutsOf(s)) {
      if (layout.is_row_major()) {
        continue;
      }
      LayerHarness harness(s.in, kind.node(s), s.batch, HarnessOptions{.x_layout = layout});
      ASSERT_TRUE(harness.status().ok()) << harness.status();
      EXPECT_EQ(harness.y_layout(), layout) << kind.name;
      for (const ImplementationChoice& choice : harness.choices()) {
        EXPECT_FALSE(choice.layer == "layer" && choice.pass == "reorder")
            << kind.name << " " << layout.ToString();
      }
    }
  }
}

TEST(NormalizerLayersTest, WithoutGammaAndBeta) {
  const LayerShape s = kLayerShapes[0];
  for (const Layout& layout : LayoutsOf(s)) {
    SetNormalizer expected = Over(ShapeOf(s), reference::GroupSets(ShapeOf(s), 2));
    LayerHarness harness(s.in,
                         GroupNormNode{.groups = 2, .epsilon = kLayerEpsilon, .affine = false},
                         s.batch, HarnessOptions{.x_layout = layout});
    ASSERT_TRUE(harness.status().ok()) << harness.status();
    const Tensor x = Inputs(expected.shape), d_y = Random("d", harness.y_count());
    EXPECT_LT(RelativeError(harness.Forward(x), reference::Forward(expected, x)), kFloatTolerance);
    EXPECT_LT(RelativeError(harness.Backward(d_y), reference::Backward(expected, x, d_y).d_x),
              kGradientTolerance);
  }
}

// A run that overflowed must not go on at a plausible loss.
TEST(NormalizerLayersTest, WhatIsNotFiniteIsReportedOrPassedOn) {
  for (const Kind& kind : Kinds()) {
    if (kind.name == "frozen batch") {
      continue;  // takes no statistics; what is not finite stays so by the formula
    }
    for (const LayerShape& s : {kLayerShapes[0], kLayerShapes[4], kLayerShapes[7]}) {
      for (const Layout& layout : LayoutsOf(s)) {
        for (const double bad : {std::nan(""), HUGE_VAL}) {
          SCOPED_TRACE(absl::StrCat(kind.name, " ", layout.ToString(), " ", bad));
          HarnessOptions options = {.next = ActivationKind::kRelu, .x_layout = layout};
          LayerHarness harness(s.in, kind.node(s), s.batch, options);
          ASSERT_TRUE(harness.status().ok()) << harness.status();
          Tensor x = Inputs(ShapeOf(s));
          x[x.size() / 2] = bad;
          const Tensor y = harness.Forward(x);
          EXPECT_TRUE(harness.saw_nan() ||
                      std::any_of(y.begin(), y.end(), [](double v) { return std::isnan(v); }));
        }
      }
    }
  }
}

}  // namespace
}  // namespace normlab::engine
