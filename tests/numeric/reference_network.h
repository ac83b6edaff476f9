#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "engine/graph/graph.h"
#include "engine/layers/reference.h"

namespace normlab::engine {

// A whole graph in double precision, layer by layer with the reference functions. Arenas are laid
// out as the graph says.
struct ReferenceResult {
  double loss = 0;
  int64_t correct = 0;
  reference::Tensor logits;
  reference::Tensor gradients;                       // of the parameters; empty in evaluation
  reference::Tensor state;                           // running statistics afterwards
  std::map<std::string, reference::Tensor> outputs;  // of every node but the loss
};

// Training uses the batch's statistics, evaluation the running ones.
ReferenceResult RunReference(const Graph& graph,
                             const reference::Tensor& parameters,
                             const reference::Tensor& state,
                             const reference::Tensor& input,
                             const std::vector<int32_t>& labels,
                             bool training);

}  // namespace normlab::engine
