// Every normalizer as a layer, in every layout that convolutions produce, against its reference.
#include "engine/layers/normalization/normalizer_layers.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "engine/dnnl/primitives.h"
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
using ::testing::HasSubstr;
using testing::Inputs;
using testing::kFloatTolerance;
using testing::LayerHarness;
using testing::Random;
using testing::RelativeError;

// d_x is what is left of d_y after its mean and its projection on xh are taken away.
constexpr double kGradientTolerance = 3e-5;
constexpr double kEpsilon = 1e-3;
constexpr double kRate = 0.3;

struct Shape {
  Dims in;
  int64_t batch;
};
// Odd areas, channels below, at and above a block of 16 and not multiples of it; narrow and wide
// dense features.
const Shape kShapes[] = {{{18, 5, 3}, 4}, {{6, 7, 7}, 2}, {{34, 3, 5}, 6},
                         {{32, 4, 4}, 2}, {{12}, 6},      {{102}, 4},
                         {{258}, 8},      {{272}, 6},     {{18, 9, 8}, 2}};

NormShape ShapeOf(const Shape& s) {
  return {s.batch, s.in[0], ElementCount(s.in) / s.in[0]};
}

// One normalizer: its node, its reference, and whether it has running statistics.
struct Kind {
  std::string name;
  std::function<NodeKind(const Shape&)> node;
  std::function<SetNormalizer(const NormShape&)> reference;
  bool over_batch = false;
};

SetNormalizer Over(const NormShape& s, std::vector<reference::Set> sets) {
  return {s, std::move(sets), true, Divisor::kDeviation, kEpsilon};
}

const BatchNormNode kBatch = {.epsilon = kEpsilon, .running_update_rate = kRate};

Kind Group(const char* name, const std::function<int64_t(int64_t channels)>& groups) {
  return {name,
          [=](const Shape& s) -> NodeKind {
            return GroupNormNode{.groups = groups(s.in[0]), .epsilon = kEpsilon};
          },
          [=](const NormShape& s) { return Over(s, reference::GroupSets(s, groups(s.channels))); }};
}

Kind Lp(const char* name, LpBatchNormNode::Power power, Divisor divisor) {
  return {name,
          [=](const Shape&) -> NodeKind {
            return LpBatchNormNode{power, kBatch};
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
      {"rms", [](const Shape&) -> NodeKind { return RmsNormNode{.epsilon = kEpsilon}; },
       [](const NormShape& s) {
         SetNormalizer norm = Over(s, reference::GroupSets(s, 1));
         norm.centred = false;
         norm.divisor = Divisor::kRootMeanSquare;
         return norm;
       }},
      {"filter response",
       [](const Shape&) -> NodeKind { return FilterResponseNode{.epsilon = kEpsilon}; },
       [](const NormShape& s) {
         SetNormalizer norm = Over(s, reference::GroupSets(s, s.channels));
         norm.centred = false;
         norm.divisor = Divisor::kRootMeanSquare;
         norm.tau = Random("tau", s.channels);
         return norm;
       }},
      {"ghost batch",
       [](const Shape& s) -> NodeKind {
         return GhostBatchNormNode{kBatch, s.batch / 2};
       },
       [](const NormShape& s) { return Over(s, reference::BatchSets(s, s.batch / 2)); }, true},
      {"batch", [](const Shape&) -> NodeKind { return kBatch; }, batch_sets, true},
      {"batch renorm",
       [](const Shape&) -> NodeKind {
         return BatchRenormNode{kBatch, 1.5, 0.7};
       },
       batch_sets, true},
      Lp("l1 batch", LpBatchNormNode::Power::kOne, Divisor::kMeanAbsolute),
      Lp("l2 batch", LpBatchNormNode::Power::kTwo, Divisor::kRootMeanSquare),
      Lp("linf batch", LpBatchNormNode::Power::kInfinity, Divisor::kMaximumAbsolute),
      {"mean-only batch",
       [](const Shape&) -> NodeKind { return MeanOnlyBatchNormNode{.running_update_rate = kRate}; },
       [](const NormShape& s) {
         SetNormalizer norm = Over(s, reference::BatchSets(s, s.batch));
         norm.divisor = Divisor::kOne;
         return norm;
       },
       true},
      {"frozen batch", [](const Shape&) -> NodeKind { return FrozenBatchNormNode{kBatch}; },
       batch_sets, true},
  };
}

// Plain, channels last, and what a convolution would like best here.
std::vector<Layout> LayoutsOf(const Shape& s) {
  Dims dims = {s.batch};
  dims.insert(dims.end(), s.in.begin(), s.in.end());
  std::vector<Layout> layouts = {Layout::RowMajor(dims)};
  if (s.in.size() == 3) {
    layouts.push_back(Layout::ChannelsLast(dims));
    const auto runtime = Runtime::Create();
    const auto convolution =
        MakeConvolutionForward(*runtime, {}, Layout::Any({s.batch, 32, s.in[1], s.in[2]}),
                               Layout::Any({s.in[0], 32, 1, 1}), Layout::Any(dims), false, true);
    EXPECT_TRUE(convolution.ok()) << convolution.status();
    layouts.push_back(convolution->layout(Arg::kDestination));
  }
  return layouts;
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

void CheckTraining(const Kind& kind, const Shape& s, const HarnessOptions& options) {
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
    for (const Shape& s : kShapes) {
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
    for (const Shape& s : kShapes) {
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
  const Shape s = kShapes[0];
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
          moves ? reference::UpdatedRunning(expected, x, kRate, tensors.running) : tensors.running;
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
    const Shape s = kShapes[0];
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

std::string ForwardImplementation(const Shape& s, int64_t groups, const Layout& layout) {
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

TEST(NormalizerLayersTest, GroupNormTakesOneDnnWhereItIsFaster) {
  const Shape small = {{18, 5, 3}, 4}, large = {{18, 9, 8}, 4}, dense = {{272}, 6};
  EXPECT_THAT(ForwardImplementation(small, 3, LayoutsOf(small)[0]), HasSubstr("bnorm"));
  EXPECT_EQ(ForwardImplementation(small, 3, LayoutsOf(small)[1]), "normlab:channels");
  EXPECT_EQ(ForwardImplementation(large, 3, LayoutsOf(large)[0]), "normlab:channels");
  EXPECT_EQ(ForwardImplementation(dense, 4, LayoutsOf(dense)[0]), "normlab:rows");
  EXPECT_THAT(ForwardImplementation(dense, 8, LayoutsOf(dense)[0]), HasSubstr("bnorm"));
  const std::string layer = ForwardImplementation(dense, 1, LayoutsOf(dense)[0]);
  EXPECT_FALSE(layer.empty());
  EXPECT_FALSE(absl::StartsWith(layer, "normlab")) << layer;
}

TEST(NormalizerLayersTest, TakesBf16AndComputesInFloat) {
  const Shape s = kShapes[0];
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

TEST(NormalizerLayersTest, WithoutGammaAndBeta) {
  const Shape s = kShapes[0];
  for (const Layout& layout : LayoutsOf(s)) {
    SetNormalizer expected = Over(ShapeOf(s), reference::GroupSets(ShapeOf(s), 2));
    LayerHarness harness(s.in, GroupNormNode{.groups = 2, .epsilon = kEpsilon, .affine = false},
                         s.batch, HarnessOptions{.x_layout = layout});
    ASSERT_TRUE(harness.status().ok()) << harness.status();
    const Tensor x = Inputs(expected.shape), d_y = Random("d", harness.y_count());
    EXPECT_LT(RelativeError(harness.Forward(x), reference::Forward(expected, x)), kFloatTolerance);
    EXPECT_LT(RelativeError(harness.Backward(d_y), reference::Backward(expected, x, d_y).d_x),
              kGradientTolerance);
  }
}

TEST(NormalizerLayersTest, DynamicTanhMatchesItsReference) {
  for (const Shape& s : kShapes) {
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

TEST(NormalizerLayersTest, NoisyBatchNormIsBatchNormAndThenAlgorithm1) {
  constexpr uint32_t kSeed = 17;
  for (const Shape& s : kShapes) {
    for (const Layout& layout : LayoutsOf(s)) {
      for (const bool normalize : {true, false}) {
        SCOPED_TRACE(absl::StrCat(layout.ToString(), " normalize ", normalize));
        const NormShape shape = ShapeOf(s);
        LayerHarness harness(
            s.in, NoisyBatchNormNode{.batch = kBatch, .normalize = normalize}, s.batch,
            HarnessOptions{.next = ActivationKind::kRelu, .x_layout = layout, .seed = kSeed});
        ASSERT_TRUE(harness.status().ok()) << harness.status();
        EXPECT_FALSE(harness.fused()) << "the noise comes before the activation";
        SetNormalizer expected = Over(shape, reference::BatchSets(shape, s.batch));
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

TEST(NormalizerLayersTest, EvaluationHasNoNoise) {
  const Shape s = kShapes[0];
  LayerHarness noisy(s.in, NoisyBatchNormNode{.batch = kBatch}, s.batch, Mode::kEvaluation);
  LayerHarness quiet(s.in, kBatch, s.batch, Mode::kEvaluation);
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

// A run that overflowed must not go on at a plausible loss.
TEST(NormalizerLayersTest, WhatIsNotFiniteIsReportedOrPassedOn) {
  for (const Kind& kind : Kinds()) {
    if (kind.name == "frozen batch") {
      continue;  // takes no statistics; what is not finite stays so by the formula
    }
    for (const Shape& s : {kShapes[0], kShapes[4], kShapes[7]}) {
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

TEST(NormalizerLayersTest, SetsOfOneValueAreRefusedWithTheLayersName) {
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
  const NodeKind over_batch[] = {GhostBatchNormNode{kBatch, 1}, BatchRenormNode{kBatch},
                                 LpBatchNormNode{}, MeanOnlyBatchNormNode{}};
  for (const NodeKind& kind : over_batch) {
    EXPECT_THAT(message({6}, kind, 1, Mode::kTraining), HasSubstr("one value per channel"));
    EXPECT_TRUE(LayerHarness({6}, kind, 1, Mode::kEvaluation).status().ok());
  }
  EXPECT_THAT(message({6}, GhostBatchNormNode{kBatch, 4}, 6, Mode::kTraining),
              HasSubstr("ghost batches of 4 examples do not divide a batch of 6"));
  EXPECT_TRUE(LayerHarness({6}, GhostBatchNormNode{kBatch, 4}, 6, Mode::kEvaluation).status().ok());
  EXPECT_TRUE(LayerHarness({6, 1, 2}, LpBatchNormNode{}, 1).status().ok());
}

}  // namespace
}  // namespace normlab::engine
