#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "engine/graph/graph.h"
#include "engine/layers/reference.h"

namespace normlab::engine {

// A whole graph in double precision, layer by layer with the reference functions: any layers, edges,
// normalizers and weights that the graph can have. Arenas are laid out as the graph says.
struct ReferenceResult {
  double loss = 0;
  int64_t correct = 0;
  reference::Tensor logits;
  reference::Tensor gradients;                       // of the parameters; empty in evaluation
  reference::Tensor state;                           // running statistics afterwards
  std::map<std::string, reference::Tensor> outputs;  // of every node but the loss
};

// Training uses the batch's statistics, evaluation the running ones. `labels`, or `targets` [N,T] of
// a graph that ends with a squared error. Noise as of step 0 and seed 0.
ReferenceResult RunReference(const Graph& graph,
                             const reference::Tensor& parameters,
                             const reference::Tensor& state,
                             const reference::Tensor& input,
                             const std::vector<int32_t>& labels,
                             bool training,
                             const reference::Tensor& targets = {});

}  // namespace normlab::engine
