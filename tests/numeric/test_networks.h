#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/graph/graph.h"
#include "engine/layers/reference.h"
#include "engine/train/network.h"

namespace normlab::engine {

// Small networks of odd, unequal sizes that between them use every kind of layer next to every kind
// it may follow.
struct TestNetwork {
  std::string name;
  Graph graph;
  int64_t batch;
  // False: the gradient of training is meant to be something else (batch renormalization).
  bool gradient_is_derivative = true;
};
// All of them: sequences, and the two kinds below.
std::vector<TestNetwork> TestNetworks();
// With edges: sums, several readers of one tensor, shortcuts, and the layers around them.
std::vector<TestNetwork> ResidualNetworks();
// One with each normalizer, on images and on features.
std::vector<TestNetwork> NormalizerNetworks();

// Multi-layer perceptron: [linear, batch norm, activation] * hidden, linear, loss.
Graph MlpGraph(int64_t in,
               const std::vector<int64_t>& hidden,
               ActivationKind kind,
               int64_t classes);

// Random weights of size 1/sqrt(fan_in), gammas, gains and scales around 1, betas and biases
// around 0, running statistics around (0, 1).
void Initialize(const Graph& graph, ModelState& model);

// Fills input and labels with the batch number `step`, the same for every network of the same
// sizes.
void FillBatch(uint64_t step, int64_t classes, Network& network);

reference::Tensor ToTensor(absl::Span<const float> values);

}  // namespace normlab::engine
