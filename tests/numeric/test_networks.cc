#include "tests/numeric/test_networks.h"

#include <cmath>
#include <initializer_list>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "common/random.h"

namespace normlab::engine {
namespace {

Graph Make(Dims input, std::initializer_list<std::pair<const char*, NodeKind>> nodes) {
  Graph graph(std::move(input));
  for (const auto& [name, kind] : nodes) {
    const absl::Status status = graph.Add(name, kind);
    EXPECT_TRUE(status.ok()) << status;
  }
  return graph;
}

}  // namespace

Graph MlpGraph(int64_t in,
               const std::vector<int64_t>& hidden,
               ActivationKind kind,
               int64_t classes) {
  Graph graph({in});
  int i = 0;
  for (const int64_t width : hidden) {
    ++i;
    EXPECT_TRUE(graph.Add(absl::StrCat("fc", i), LinearNode{width, false}).ok());
    EXPECT_TRUE(graph.Add(absl::StrCat("bn", i), BatchNormNode{}).ok());
    EXPECT_TRUE(graph.Add(absl::StrCat("act", i), ActivationNode{kind}).ok());
  }
  EXPECT_TRUE(graph.Add("head", LinearNode{classes, true}).ok());
  EXPECT_TRUE(graph.Add("loss", SoftmaxCrossEntropyNode{}).ok());
  return graph;
}

std::vector<TestNetwork> TestNetworks() {
  const auto conv = [](int64_t channels, int64_t kernel, int64_t stride, int64_t padding,
                       bool bias) {
    return ConvNode{.out_channels = channels,
                    .kernel = kernel,
                    .stride = stride,
                    .padding = padding,
                    .bias = bias};
  };
  const auto act = [](ActivationKind kind) { return ActivationNode{kind}; };
  std::vector<TestNetwork> networks;
  networks.push_back({"mlp_sigmoid", MlpGraph(37, {19, 100, 5}, ActivationKind::kSigmoid, 7), 13});
  networks.push_back({"mlp_relu_wide", MlpGraph(29, {272, 33}, ActivationKind::kRelu, 10), 7});
  networks.push_back({"mlp_tanh_batch_2", MlpGraph(11, {6}, ActivationKind::kTanh, 3), 2});
  networks.push_back({"mlp_large", MlpGraph(31, {512, 129}, ActivationKind::kTanh, 4), 301});
  networks.push_back({"linear_classifier",
                      Make({2, 3, 5}, {{"flatten", FlattenNode{}},
                                       {"head", LinearNode{4, true}},
                                       {"loss", SoftmaxCrossEntropyNode{}}}),
                      1});
  networks.push_back({"mlp_without_normalizer",
                      Make({23}, {{"fc1", LinearNode{17, true}},
                                  {"act1", act(ActivationKind::kTanh)},
                                  {"fc2", LinearNode{9, true}},
                                  {"act2", act(ActivationKind::kIdentity)},
                                  {"head", LinearNode{5, true}},
                                  {"loss", SoftmaxCrossEntropyNode{}}}),
                      6});
  networks.push_back(
      {"norm_first",
       Make({3, 5, 4}, {{"bn0", BatchNormNode{.affine = false}},
                        {"bn1", BatchNormNode{.epsilon = 0.1, .running_update_rate = 0.25}},
                        {"flatten", FlattenNode{}},
                        {"bn2", BatchNormNode{}},
                        {"head", LinearNode{3, true}},
                        {"loss", SoftmaxCrossEntropyNode{}}}),
       5});
  networks.push_back({"cnn_relu_max",
                      Make({3, 11, 14}, {{"conv1", conv(16, 3, 1, 1, false)},
                                         {"bn1", BatchNormNode{}},
                                         {"act1", act(ActivationKind::kRelu)},
                                         {"pool1", PoolNode{PoolKind::kMax, 2, 2}},
                                         {"conv2", conv(32, 3, 1, 1, false)},
                                         {"bn2", BatchNormNode{}},
                                         {"act2", act(ActivationKind::kRelu)},
                                         {"pool2", PoolNode{PoolKind::kMax, 2, 2}},
                                         {"flatten", FlattenNode{}},
                                         {"fc1", LinearNode{21, false}},
                                         {"bn3", BatchNormNode{}},
                                         {"act3", act(ActivationKind::kRelu)},
                                         {"head", LinearNode{10, true}},
                                         {"loss", SoftmaxCrossEntropyNode{}}}),
                      5});
  networks.push_back({"cnn_odd_channels_average",
                      Make({1, 12, 9}, {{"conv1", conv(13, 5, 2, 2, true)},
                                        {"act1", act(ActivationKind::kTanh)},
                                        {"pool1", PoolNode{PoolKind::kAverage, 2, 1}},
                                        {"conv2", conv(17, 3, 1, 1, false)},
                                        {"bn2", BatchNormNode{.affine = false}},
                                        {"act2", act(ActivationKind::kSigmoid)},
                                        {"pool2", PoolNode{PoolKind::kMax, 3, 2}},
                                        {"flatten", FlattenNode{}},
                                        {"head", LinearNode{6, true}},
                                        {"loss", SoftmaxCrossEntropyNode{}}}),
                      3});
  networks.push_back({"cnn_without_normalizer",
                      Make({2, 7, 10}, {{"conv1", conv(16, 3, 2, 1, true)},
                                        {"act1", act(ActivationKind::kSigmoid)},
                                        {"conv2", conv(32, 1, 1, 0, true)},
                                        {"act2", act(ActivationKind::kTanh)},
                                        {"conv3", conv(5, 4, 1, 2, true)},
                                        {"flatten", FlattenNode{}},
                                        {"head", LinearNode{4, true}},
                                        {"loss", SoftmaxCrossEntropyNode{}}}),
                      4});
  for (const auto& more : {ResidualNetworks(), NormalizerNetworks()}) {
    networks.insert(networks.end(), more.begin(), more.end());
  }
  return networks;
}

void Initialize(const Graph& graph, ModelState& model) {
  for (const ParameterSpec& spec : graph.parameters()) {
    const common::RandomStream stream(3, spec.name);
    for (int64_t i = 0; i < spec.count; ++i) {
      const double normal = stream.Normal(0, static_cast<uint64_t>(i));
      double value = 0.3 * normal;
      if (spec.role == ParameterRole::kWeight) {
        value = normal / std::sqrt(static_cast<double>(spec.fan_in));
      } else if (spec.role == ParameterRole::kGamma || spec.role == ParameterRole::kGain ||
                 spec.role == ParameterRole::kScale || spec.role == ParameterRole::kAlpha) {
        value = 1 + 0.3 * normal;
      }
      model.parameters.data()[spec.offset + i] = static_cast<float>(value);
    }
  }
  for (const ParameterSpec& spec : graph.state()) {
    const common::RandomStream stream(3, spec.name);
    for (int64_t i = 0; i < spec.count; ++i) {
      const double normal = 0.3 * stream.Normal(0, static_cast<uint64_t>(i));
      model.state.data()[spec.offset + i] =
          static_cast<float>(spec.role == ParameterRole::kRunningVar ? std::exp(normal) : normal);
    }
  }
}

void FillBatch(uint64_t step, int64_t classes, Network& network) {
  const common::RandomStream inputs(3, "inputs");
  const common::RandomStream labels(3, "labels");
  for (size_t i = 0; i < network.input().size(); ++i) {
    network.input()[i] = static_cast<float>(inputs.Normal(step, i));
  }
  for (size_t i = 0; i < network.labels().size(); ++i) {
    network.labels()[i] =
        static_cast<int32_t>(labels.Below(static_cast<uint64_t>(classes), step, i));
  }
}

reference::Tensor ToTensor(absl::Span<const float> values) {
  return reference::Tensor(values.begin(), values.end());
}

}  // namespace normlab::engine
