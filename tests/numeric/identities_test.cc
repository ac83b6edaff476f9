// Identities between whole networks: weights before a normalizer have no scale, and normalizers
// whose options make them another normalizer train as that one does. (Those of single layers are
// tested beside the layers; folding and orthogonality in network_numeric_test.cc.)
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "common/random.h"
#include "engine/layers/testing.h"
#include "engine/train/network.h"
#include "tests/numeric/test_networks.h"
#include "tests/numeric/training_run.h"

namespace normlab::engine {
namespace {

using reference::Tensor;
using testing::RelativeError;

// Ten orders below the variances here: scales are then exactly without effect, but for rounding.
constexpr double kEpsilon = 1e-10;
constexpr int64_t kBatch = 12;
constexpr int64_t kClasses = 5;

struct NamedNormalizer {
  std::string name;
  NodeKind kind;
};

// All that divide by a size of what they normalize. Ghost parts of 4, groups of 2 channels.
std::vector<NamedNormalizer> ScaleInvariantNormalizers() {
  const BatchNormNode batch = {.epsilon = kEpsilon};
  return {
      {"batch", batch},
      {"layer", GroupNormNode{.groups = 1, .epsilon = kEpsilon}},
      {"group", GroupNormNode{.groups = 3, .epsilon = kEpsilon}},
      {"instance", GroupNormNode{.groups = 6, .epsilon = kEpsilon}},
      {"rms", RmsNormNode{.epsilon = kEpsilon}},
      {"ghost_batch", GhostBatchNormNode{.batch = batch, .size = 4}},
      {"l1_batch", LpBatchNormNode{.power = LpBatchNormNode::Power::kOne, .batch = batch}},
      {"l2_batch", LpBatchNormNode{.power = LpBatchNormNode::Power::kTwo, .batch = batch}},
      {"linf_batch", LpBatchNormNode{.power = LpBatchNormNode::Power::kInfinity, .batch = batch}},
      {"filter_response", FilterResponseNode{.epsilon = kEpsilon}},
      {"noisy_batch", NoisyBatchNormNode{.batch = batch}},
  };
}

Graph ConvNet(const NodeKind& normalizer, WeightTransform transform = WeightTransform::kNone) {
  ConvNode conv = {.out_channels = 6, .kernel = 3, .stride = 1, .padding = 1, .bias = false};
  conv.weights.transform = transform;
  Graph graph({3, 7, 5});
  EXPECT_TRUE(graph.Add("conv1", conv).ok());
  EXPECT_TRUE(graph.Add("norm1", normalizer).ok());
  EXPECT_TRUE(graph.Add("act1", ActivationNode{ActivationKind::kTanh}).ok());
  EXPECT_TRUE(graph.Add("conv2", conv).ok());
  EXPECT_TRUE(graph.Add("norm2", normalizer).ok());
  EXPECT_TRUE(graph.Add("flatten", FlattenNode{}).ok());
  EXPECT_TRUE(graph.Add("head", LinearNode{kClasses, true}).ok());
  EXPECT_TRUE(graph.Add("loss", SoftmaxCrossEntropyNode{}).ok());
  return graph;
}

struct Step {
  double loss = 0;
  Tensor outputs;
  Tensor gradients;
};

// One step with every weight of a convolution multiplied by `scale`.
Step RunScaled(const Graph& graph, float scale) {
  ModelState model(graph);
  Initialize(graph, model);
  for (const ParameterSpec& spec : graph.parameters()) {
    if (spec.role == ParameterRole::kWeight && spec.name != "head.weight") {
      for (int64_t i = spec.offset; i < spec.offset + spec.count; ++i) {
        model.parameters.data()[i] *= scale;
      }
    }
  }
  auto network = Network::Plan(graph, model, {.batch_size = kBatch, .threads = 2});
  EXPECT_TRUE(network.ok()) << network.status();
  if (!network.ok()) {
    return {};
  }
  FillBatch(0, kClasses, **network);
  Step step;
  step.loss = (*network)->Forward().loss;
  step.outputs = ToTensor((*network)->outputs());
  (*network)->Backward();
  step.gradients = ToTensor(model.gradients.span());
  return step;
}

// grad(a w) = grad(w)/a for weights before a normalizer, and nothing else changes.
void ExpectScaleInvariant(const std::string& name, const Graph& graph) {
  // Not a power of two, which would hide roundings.
  constexpr float kScale = 3;
  constexpr double kTolerance = 2e-5;  // some float roundings of sums through five layers
  const Step one = RunScaled(graph, 1);
  const Step scaled = RunScaled(graph, kScale);
  ASSERT_FALSE(one.outputs.empty()) << name;
  EXPECT_NEAR(scaled.loss, one.loss, kTolerance) << name;
  EXPECT_LT(RelativeError(scaled.outputs, one.outputs), kTolerance) << name;
  for (const ParameterSpec& spec : graph.parameters()) {
    const double factor =
        spec.role == ParameterRole::kWeight && spec.name != "head.weight" ? kScale : 1;
    Tensor expected, actual;
    for (int64_t i = spec.offset; i < spec.offset + spec.count; ++i) {
      expected.push_back(one.gradients[static_cast<size_t>(i)]);
      actual.push_back(factor * scaled.gradients[static_cast<size_t>(i)]);
    }
    EXPECT_LT(RelativeError(actual, expected), kTolerance) << name << " " << spec.name;
  }
}

TEST(ScaleInvarianceTest, OfWeightsBeforeEveryNormalizerThatDividesByASize) {
  for (const NamedNormalizer& normalizer : ScaleInvariantNormalizers()) {
    ExpectScaleInvariant(normalizer.name, ConvNet(normalizer.kind));
  }
}

TEST(ScaleInvarianceTest, OfTheDirectionOfWeightNorm) {
  // w = g v/|v| whatever the length of v. Mean-only batch norm divides by nothing.
  ExpectScaleInvariant("weight", ConvNet(MeanOnlyBatchNormNode{}, WeightTransform::kWeightNorm));
}

TEST(ScaleInvarianceTest, IsNotThatOfNormalizersThatDivideByNothing) {
  const Graph graph = ConvNet(MeanOnlyBatchNormNode{});
  const Step one = RunScaled(graph, 1);
  const Step scaled = RunScaled(graph, 3);
  EXPECT_GT(std::abs(scaled.loss - one.loss), 1e-2);
}

// Trains a small convolutional net of 8 channels everywhere.
TrainingResult TrainWith(const std::string& normalizer) {
  auto result = RunTraining(absl::StrCat(
      "data { gaussian_classes { classes: 4 dims: [3, 8, 10] train_examples: 256 "
      "test_examples: 64 separation: 6 } } model { cnn { blocks { channels: 8 pooling {} } "
      "blocks { channels: 8 } } } batch_size: 32 steps: 16 evaluation { every_epochs: 1 } "
      "optimizer { sgd { learning_rate: 0.05 momentum: 0.9 } } normalization { ",
      normalizer, " }"));
  EXPECT_TRUE(result.ok()) << normalizer << ": " << result.status();
  return result.ok() ? *std::move(result) : TrainingResult();
}

// Largest relative difference of the losses of two runs, and of what the test set has at the end.
double Distance(const TrainingResult& a, const TrainingResult& b) {
  const std::vector<double>& x = a.curves.train_loss;
  const std::vector<double>& y = b.curves.train_loss;
  if (x.empty() || x.size() != y.size()) {
    return INFINITY;
  }
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    worst = std::max(worst, std::abs(x[i] - y[i]) / y[i]);
  }
  const double test_a = a.outcome.result().final_metrics().at("test/loss");
  const double test_b = b.outcome.result().final_metrics().at("test/loss");
  return std::max(worst, std::abs(test_a - test_b) / test_b);
}

TEST(EqualNormalizersTest, OptionsThatMakeANormalizerAnotherOneTrainAsThatOne) {
  // Rounding in other places, over 16 steps.
  constexpr double kTolerance = 1e-4;
  const std::pair<const char*, const char*> kPairs[] = {
      {"layer {}", "group { groups: 1 }"},
      {"instance {}", "group { groups: 8 }"},
      {"ghost_batch { ghost_size: 32 }", "batch {}"},
      {"batch_renorm { r_max: 1 d_max: 0 }", "batch {}"},
      {"noisy_batch { mean_range: 0 deviation_range: 1 mean_jitter: 0 deviation_jitter: 0 }",
       "batch {}"},
      {"batch { epsilon: 1e-5 running_update_rate: 0.1 affine: true }", "batch {}"},
  };
  for (const auto& [first, second] : kPairs) {
    EXPECT_LT(Distance(TrainWith(first), TrainWith(second)), kTolerance)
        << first << " and " << second;
  }
}

TEST(EqualNormalizersTest, OtherOptionsTrainDifferently) {
  constexpr double kDifference = 1e-3;
  const TrainingResult batch = TrainWith("batch {}");
  for (const char* other :
       {"ghost_batch { ghost_size: 16 }", "noisy_batch {}", "layer {}", "batch { epsilon: 0.1 }",
        "batch { running_update_rate: 0.5 }", "mean_only_batch {}", "l1_batch {}", "rms {}"}) {
    EXPECT_GT(Distance(TrainWith(other), batch), kDifference) << other;
  }
  EXPECT_GT(Distance(TrainWith("group { groups: 2 }"), TrainWith("layer {}")), kDifference);
}

}  // namespace
}  // namespace normlab::engine
