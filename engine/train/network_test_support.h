#pragma once

#include <cstdint>

#include "gtest/gtest.h"

#include "common/random.h"
#include "engine/train/network.h"

// What the tests of networks share: two small nets, weights and a task.
namespace normlab::engine {

inline Graph Mlp() {
  Graph graph({1, 5, 3});
  EXPECT_TRUE(graph.Add("flatten", FlattenNode{}).ok());
  EXPECT_TRUE(graph.Add("fc1", LinearNode{9, false}).ok());
  EXPECT_TRUE(graph.Add("bn1", BatchNormNode{}).ok());
  EXPECT_TRUE(graph.Add("act1", ActivationNode{ActivationKind::kSigmoid}).ok());
  EXPECT_TRUE(graph.Add("head", LinearNode{3, true}).ok());
  EXPECT_TRUE(graph.Add("loss", SoftmaxCrossEntropyNode{}).ok());
  return graph;
}

inline Graph Cnn(int64_t size, int64_t channels, double epsilon = 1e-5) {
  Graph graph({3, size, size + 3});
  const ConvNode conv = {
      .out_channels = channels, .kernel = 3, .stride = 1, .padding = 1, .bias = false};
  EXPECT_TRUE(graph.Add("conv1", conv).ok());
  EXPECT_TRUE(graph.Add("bn1", BatchNormNode{.epsilon = epsilon}).ok());
  EXPECT_TRUE(graph.Add("act1", ActivationNode{ActivationKind::kRelu}).ok());
  EXPECT_TRUE(graph.Add("pool1", PoolNode{PoolKind::kMax, 2, 2}).ok());
  EXPECT_TRUE(graph.Add("conv2", conv).ok());
  EXPECT_TRUE(graph.Add("bn2", BatchNormNode{.epsilon = epsilon}).ok());
  EXPECT_TRUE(graph.Add("act2", ActivationNode{ActivationKind::kTanh}).ok());
  EXPECT_TRUE(graph.Add("flatten", FlattenNode{}).ok());
  EXPECT_TRUE(graph.Add("head", LinearNode{3, true}).ok());
  EXPECT_TRUE(graph.Add("loss", SoftmaxCrossEntropyNode{}).ok());
  return graph;
}

inline void Randomize(ModelState& model, const Graph& graph) {
  const common::RandomStream stream(1, "weights");
  for (const ParameterSpec& spec : graph.parameters()) {
    for (int64_t i = spec.offset; i < spec.offset + spec.count; ++i) {
      model.parameters.data()[i] =
          static_cast<float>(0.3 * stream.Normal(0, static_cast<uint64_t>(i)));
    }
  }
}

// A task that can be learned: the label says which third of the input is larger.
inline void FillBatch(Network& network, uint64_t step) {
  const common::RandomStream stream(1, "inputs");
  const size_t batch = network.labels().size();
  const size_t features = network.input().size() / batch;
  for (size_t n = 0; n < batch; ++n) {
    network.labels()[n] = static_cast<int32_t>((n + step) % 3);
    for (size_t i = 0; i < features; ++i) {
      const bool raised = i * 3 / features == (n + step) % 3;
      network.input()[n * features + i] =
          static_cast<float>(stream.Normal(step, n * features + i) + (raised ? 2.0 : 0.0));
    }
  }
}

// As VGG ends: convolutions in blocks of channels, pooling down to one pixel, a linear head.
inline Graph SmallVgg() {
  Graph graph({3, 8, 8});
  int number = 0;
  for (const int64_t channels : {32, 64, 48}) {
    ++number;
    const std::string suffix = std::to_string(number);
    EXPECT_TRUE(graph.Add("conv" + suffix, ConvNode{.out_channels = channels, .bias = false}).ok());
    EXPECT_TRUE(graph.Add("bn" + suffix, BatchNormNode{}).ok());
    EXPECT_TRUE(graph.Add("act" + suffix, ActivationNode{ActivationKind::kRelu}).ok());
    EXPECT_TRUE(graph.Add("pool" + suffix, PoolNode{PoolKind::kMax, 2, 2}).ok());
  }
  EXPECT_TRUE(graph.Add("flatten", FlattenNode{}).ok());
  EXPECT_TRUE(graph.Add("head", LinearNode{3, true}).ok());
  EXPECT_TRUE(graph.Add("loss", SoftmaxCrossEntropyNode{}).ok());
  return graph;
}

}  // namespace normlab::engine
