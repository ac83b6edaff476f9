#pragma once

#include <memory>
#include <optional>

#include "engine/graph/graph.h"
#include "engine/layers/layer.h"

namespace normlab::engine {

// The one table of layer kinds: which class executes a node. `next` is the node after it whose work
// a layer may take over (a batch norm: the activation), or null when everything is to stay visible
// or somebody else reads the node's output too. `synchronized`: the plan's Planner::synchronized().
std::unique_ptr<Layer> MakeLayer(const Node& node,
                                 const Node* next,
                                 const LayerParameters& parameters,
                                 bool synchronized = false);

// Finds the tensors of `node` in the arenas (each as large as the graph says; `gradients` may be
// null for evaluation).
LayerParameters FindParameters(
    const Graph& graph, const Node& node, float* parameters, float* gradients, float* state);

}  // namespace normlab::engine
