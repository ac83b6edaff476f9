#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "engine/graph/graph.h"
#include "engine/graph/memory_estimate.h"
#include "engine/spec/run_length.h"
#include "engine/spec/violation.h"

#include "normlab/v1/spec.pb.h"

namespace normlab::engine {

// Where a normalizer node comes from.
struct NormalizerOrigin {
  // Where in the spec it stands: "normalization", or "normalization_overrides[1].normalization".
  std::string field;
  // The weight layer that it normalizes.
  std::string layer;
  // Its name in the spec: "batch".
  std::string kind;
};

// A network as data, or why there is none.
struct BuiltGraph {
  // Set when there is no violation.
  std::optional<Graph> graph;
  // Field of the spec that made the network impossible, the layer and the shapes.
  std::vector<Violation> violations;
  // Whose normalizers the normalizer nodes are, by the nodes' names; of weight norm, which has none, by
  // those of its weight layers.
  std::map<std::string, NormalizerOrigin> normalizers;
};

// Builds the network that a valid, resolved spec describes, for data of `shape`, its loss at the
// end. engine/models/families.h says what each kind of model consists of, and how its layers are
// called; an IDENTITY activation adds no layer, and an activation always comes right after the
// normalizer before it.
//
// Every weight layer but the last has the normalizer that the spec chooses for it: a node after it
// (before or after the activation), a transformation of its weights, or both. It has no bias before
// a normalizer with a beta, or one that subtracts a mean per channel; with a normalizer after the
// activation it has one. Pure; thread-safe.
BuiltGraph BuildGraph(const v1::JobSpec& resolved, const DatasetShape& shape);

// What one run of the job needs at most: both plans (training, and the kept last batch when there
// is one), both evaluation plans, parameters, optimizer state and the mapped data set. In bytes;
// saturates.
MemoryEstimate EstimateJobMemory(const v1::JobSpec& resolved,
                                 const Graph& graph,
                                 const DatasetShape& shape);

}  // namespace normlab::engine
