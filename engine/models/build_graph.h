#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "engine/graph/graph.h"
#include "engine/graph/memory_estimate.h"
#include "engine/spec/run_length.h"
#include "engine/spec/violation.h"

#include "normlab/v1/spec.pb.h"

namespace normlab::engine {

// A network as data, or why there is none.
struct BuiltGraph {
  // Set when there is no violation.
  std::optional<Graph> graph;
  // Field of the spec that made the network impossible, the layer and the shapes.
  std::vector<Violation> violations;
};

// Builds the network that a valid, resolved spec describes, for images of `shape`, softmax cross
// entropy over its classes at the end.
//   mlp: flatten, [linear, normalizer, activation]*, linear "head"
//   cnn: [convolution, normalizer, activation, pooling?]*, flatten, [linear, normalizer,
//        activation]*, linear "head"
// Layers are numbered from 1 within their kind: conv1, bn1, act1, pool1, fc1, ...; an IDENTITY
// activation adds no layer. Pure; thread-safe.
BuiltGraph BuildGraph(const v1::JobSpec& resolved, const DatasetShape& shape);

// What one run of the job needs at most: both plans (training, and the kept last batch when there
// is one), both evaluation plans, parameters, optimizer state and the mapped data set. In bytes;
// saturates.
MemoryEstimate EstimateJobMemory(const v1::JobSpec& resolved,
                                 const Graph& graph,
                                 const DatasetShape& shape);

}  // namespace normlab::engine
