// Networks with edges, and one with each normalizer and each transformation of weights.
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "tests/numeric/test_networks.h"

namespace normlab::engine {
namespace {

struct Layer {
  std::string name;
  NodeKind kind;
  std::vector<std::string> inputs = {};
};

Graph Make(Dims input, const std::vector<Layer>& layers) {
  Graph graph(std::move(input));
  for (const Layer& layer : layers) {
    const absl::Status status = graph.Add(layer.name, layer.kind, layer.inputs);
    EXPECT_TRUE(status.ok()) << status;
  }
  return graph;
}

ConvNode Conv(int64_t channels, int64_t kernel = 3, int64_t stride = 1, bool bias = false) {
  return {.out_channels = channels,
          .kernel = kernel,
          .stride = stride,
          .padding = kernel / 2,
          .bias = bias};
}

ActivationNode Act(ActivationKind kind) {
  return {kind};
}

// A stem and two residual blocks, the second of which halves the image: `shortcut` makes its
// shortcut from "act2", in layers that end with "shortcut".
Graph TwoBlocks(int64_t channels,
                int64_t more_channels,
                ActivationKind activation,
                const std::vector<Layer>& shortcut) {
  std::vector<Layer> layers = {
      {"conv1", Conv(channels)},
      {"bn1", BatchNormNode{}},
      {"act1", Act(activation)},
      {"a.conv1", Conv(channels)},
      {"a.bn1", BatchNormNode{}},
      {"a.act1", Act(activation)},
      {"a.conv2", Conv(channels)},
      {"a.bn2", BatchNormNode{}},
      {"a.add", AddNode{}, {"a.bn2", "act1"}},
      {"act2", Act(activation)},
      {"b.conv1", Conv(more_channels, 3, 2)},
      {"b.bn1", BatchNormNode{}},
      {"b.act1", Act(activation)},
      {"b.conv2", Conv(more_channels)},
      {"b.bn2", BatchNormNode{}},
  };
  layers.insert(layers.end(), shortcut.begin(), shortcut.end());
  const std::vector<Layer> rest = {{"b.add", AddNode{}, {"b.bn2", "shortcut"}},
                                   {"act3", Act(activation)},
                                   {"avgpool", GlobalAveragePoolNode{}},
                                   {"fc", LinearNode{5, true}},
                                   {"loss", SoftmaxCrossEntropyNode{}}};
  layers.insert(layers.end(), rest.begin(), rest.end());
  return Make({3, 7, 9}, layers);
}

Graph Projection(int64_t channels, int64_t more_channels, ActivationKind activation) {
  return TwoBlocks(
      channels, more_channels, activation,
      {{"b.shortcut.0", Conv(more_channels, 1, 2), {"act2"}}, {"shortcut", BatchNormNode{}}});
}

Graph ZeroPadded(int64_t channels, int64_t more_channels, ActivationKind activation) {
  return TwoBlocks(
      channels, more_channels, activation,
      {{"shortcut", SubsampleNode{.stride = 2, .out_channels = more_channels}, {"act2"}}});
}

// Fixup's parts: scalar biases before convolutions, activations and the head, a multiplier.
Graph Fixup() {
  return Make({2, 6, 5}, {{"pad", PadNode{.height = 9, .width = 8}},
                          {"conv1", Conv(13)},
                          {"bias1", ScalarBiasNode{}},
                          {"act1", Act(ActivationKind::kTanh)},
                          {"bias1a", ScalarBiasNode{}},
                          {"conv2", Conv(13)},
                          {"bias1b", ScalarBiasNode{}},
                          {"act2", Act(ActivationKind::kSilu)},
                          {"bias2a", ScalarBiasNode{}},
                          {"conv3", Conv(13)},
                          {"scale", ScaleNode{}},
                          {"bias2b", ScalarBiasNode{}},
                          {"add", AddNode{}, {"bias2b", "act1"}},
                          {"act3", Act(ActivationKind::kElu)},
                          {"avgpool", GlobalAveragePoolNode{}},
                          {"bias2", ScalarBiasNode{}},
                          {"fc", LinearNode{4, true}},
                          {"loss", SoftmaxCrossEntropyNode{}}});
}

// Identity skips around dense layers: every sum is read by a normalizer and by the next sum.
Graph SkippingMlp(int64_t width, ActivationKind activation) {
  std::vector<Layer> layers = {{"flatten", FlattenNode{}}, {"fc1", LinearNode{width, false}}};
  std::string sum = "fc1";
  for (int i = 1; i <= 3; ++i) {
    layers.push_back({absl::StrCat("bn", i), BatchNormNode{}, {sum}});
    layers.push_back({absl::StrCat("act", i), Act(activation)});
    if (i < 3) {
      const std::string next = absl::StrCat("fc", i + 1);
      layers.push_back({next, LinearNode{width, false}});
      layers.push_back({absl::StrCat("add", i + 1), AddNode{}, {next, sum}});
      sum = absl::StrCat("add", i + 1);
    }
  }
  layers.push_back({"head", LinearNode{6, true}});
  layers.push_back({"loss", SoftmaxCrossEntropyNode{}});
  return Make({2, 3, 4}, layers);
}

// The input read twice, sums of three and of the same tensor twice, padding and subsampling behind
// layers that need a gradient, and a loss on classes as vectors.
Graph Tangle() {
  return Make({3, 6, 5}, {{"left", Conv(7, 3, 1, true), {"input"}},
                          {"right", Conv(7, 1, 1, true), {"input"}},
                          {"pool", PoolNode{PoolKind::kAverage, 2, 2}, {"right"}},
                          {"pad", PadNode{.height = 6, .width = 5}},
                          {"sum3", AddNode{}, {"left", "pad", "right"}},
                          {"act", Act(ActivationKind::kGelu)},
                          {"twice", AddNode{}, {"act", "act"}},
                          {"half", SubsampleNode{.stride = 3, .out_channels = 9}},
                          {"flatten", FlattenNode{}},
                          {"head", LinearNode{5, true}},
                          {"loss", SquaredErrorNode{.mean = true}}});
}

Graph Groups() {
  ConvNode grouped = Conv(18);
  grouped.groups = 3;
  ConvNode depthwise = Conv(18, 5, 2);
  depthwise.groups = 18;
  return Make({2, 8, 7}, {{"conv1", Conv(12)},
                          {"bn1", BatchNormNode{}},
                          {"act1", Act(ActivationKind::kTanh)},
                          {"conv2", grouped},
                          {"bn2", BatchNormNode{}},
                          {"act2", Act(ActivationKind::kSigmoid)},
                          {"conv3", depthwise},
                          {"conv4", Conv(6, 1, 1, true)},
                          {"avgpool", GlobalAveragePoolNode{}},
                          {"loss", SquaredErrorNode{.mean = false}}});
}

// [convolution, normalizer, activation] twice around a residual edge, then dense with another
// normalizer of the kind.
TestNetwork WithNormalizer(const std::string& name,
                           const NodeKind& on_images,
                           const NodeKind& on_features,
                           WeightTransform transform = WeightTransform::kNone) {
  ConvNode conv = Conv(10, 3, 1, true);
  conv.weights.transform = transform;
  LinearNode linear = {.out = 12, .bias = true};
  linear.weights.transform = transform;
  return {.name = name,
          .graph = Make({3, 6, 5}, {{"conv1", conv},
                                    {"norm1", on_images},
                                    {"act1", Act(ActivationKind::kTanh)},
                                    {"conv2", conv},
                                    {"norm2", on_images},
                                    {"add", AddNode{}, {"norm2", "act1"}},
                                    {"act2", Act(ActivationKind::kRelu)},
                                    {"flatten", FlattenNode{}},
                                    {"fc1", linear},
                                    {"norm3", on_features},
                                    {"act3", Act(ActivationKind::kRelu)},
                                    {"head", LinearNode{5, true}},
                                    {"loss", SoftmaxCrossEntropyNode{}}}),
          .batch = 6};
}

TestNetwork WithNormalizer(const std::string& name, const NodeKind& normalizer) {
  return WithNormalizer(name, normalizer, normalizer);
}

}  // namespace

std::vector<TestNetwork> ResidualNetworks() {
  return {{"projection_odd", Projection(13, 21, ActivationKind::kTanh), 4},
          {"projection_relu", Projection(16, 32, ActivationKind::kRelu), 3},
          {"projection_relu_odd", Projection(5, 11, ActivationKind::kRelu), 5},
          {"zero_pad_odd", ZeroPadded(13, 21, ActivationKind::kSigmoid), 3},
          {"zero_pad_relu", ZeroPadded(16, 32, ActivationKind::kRelu), 4},
          {"fixup", Fixup(), 5},
          {"mlp_skips_relu", SkippingMlp(19, ActivationKind::kRelu), 7},
          {"mlp_skips_wide", SkippingMlp(48, ActivationKind::kSilu), 11},
          {"tangle", Tangle(), 3},
          {"groups", Groups(), 4}};
}

std::vector<TestNetwork> NormalizerNetworks() {
  const BatchNormNode batch = {.epsilon = 1e-3, .running_update_rate = 0.25};
  const BatchNormNode plain = {.affine = false};
  using Power = LpBatchNormNode::Power;
  std::vector<TestNetwork> networks = {
      WithNormalizer("batch", batch),
      WithNormalizer("noisy_batch", NoisyBatchNormNode{.batch = batch}),
      WithNormalizer("noise_alone", NoisyBatchNormNode{.batch = batch, .normalize = false}),
      WithNormalizer("layer", GroupNormNode{.groups = 1}),
      WithNormalizer("layer_plain", GroupNormNode{.groups = 1, .affine = false}),
      WithNormalizer("group", GroupNormNode{.groups = 5}, GroupNormNode{.groups = 3}),
      WithNormalizer("instance", GroupNormNode{.groups = 10}, GroupNormNode{.groups = 1}),
      WithNormalizer("rms", RmsNormNode{}),
      WithNormalizer("batch_renorm", BatchRenormNode{.batch = batch, .r_max = 1.5, .d_max = 0.5}),
      WithNormalizer("ghost_batch", GhostBatchNormNode{.batch = batch, .size = 3}),
      WithNormalizer("l1_batch", LpBatchNormNode{.power = Power::kOne, .batch = batch}),
      WithNormalizer("l2_batch", LpBatchNormNode{.power = Power::kTwo, .batch = plain}),
      WithNormalizer("linf_batch", LpBatchNormNode{.power = Power::kInfinity, .batch = batch}),
      WithNormalizer("filter_response", FilterResponseNode{}, GroupNormNode{.groups = 2}),
      WithNormalizer("dyt", DynamicTanhNode{}),
      WithNormalizer("mean_only_batch", MeanOnlyBatchNormNode{}),
      WithNormalizer("frozen_batch", FrozenBatchNormNode{.batch = batch}),
      WithNormalizer("weight_norm", MeanOnlyBatchNormNode{}, MeanOnlyBatchNormNode{},
                     WeightTransform::kWeightNorm),
      WithNormalizer("weight_standardization", GroupNormNode{.groups = 2},
                     GroupNormNode{.groups = 4}, WeightTransform::kStandardization)};
  for (TestNetwork& network : networks) {
    // r and d are constants to the gradient, but not to a difference.
    network.gradient_is_derivative = network.name != "batch_renorm";
  }
  return networks;
}

}  // namespace normlab::engine
