#pragma once

#include <vector>

#include "absl/types/span.h"

#include "engine/graph/graph.h"
#include "engine/graph/weight_layers.h"

namespace normlab::engine {

// A sum over all trainable parameters, and over the weights alone (not biases, gammas and betas).
struct WeightSums {
  double all = 0;
  double weights = 0;
};

// Which parts of an arena are weights. Sums go over every number once, in a fixed order. Thread-safe.
class WeightParts {
 public:
  explicit WeightParts(const Graph& graph);

  WeightSums SquaredNorm(absl::Span<const float> arena) const;
  // |a - b|^2.
  WeightSums SquaredDistance(absl::Span<const float> a, absl::Span<const float> b) const;

 private:
  template <typename OfRange>
  WeightSums Sum(const OfRange& of_range) const;

  std::vector<TensorRange> weights_;
  std::vector<TensorRange> others_;  // what lies between them
};

}  // namespace normlab::engine
