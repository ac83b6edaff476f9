#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "engine/graph/graph.h"

namespace normlab::engine {

// Far beyond what any machine trains, small enough that sums and products of a few of them fit 64
// bits.
inline constexpr int64_t kMaxElements = int64_t{1} << 40;

// What a node adds to a graph: its output shape and its tensors, still without offsets.
struct InferredNode {
  Dims out;
  std::vector<ParameterSpec> parameters;
  std::vector<ParameterSpec> state;
};

// a*b, or the largest number when that overflows. Not negative.
int64_t SaturatingProduct(int64_t a, int64_t b);

// "layer NAME: PROBLEM"
absl::Status Misfit(absl::string_view layer, absl::string_view problem);

// The shape and tensors of a node called `name` that reads inputs of these shapes (at least one,
// every size at least 1). INVALID_ARGUMENT, naming the layer and the shapes: it does not fit.
// Thread-safe. Internal to engine/graph.
absl::StatusOr<InferredNode> InferNode(absl::string_view name,
                                       const NodeKind& kind,
                                       const std::vector<Dims>& inputs);

}  // namespace normlab::engine
