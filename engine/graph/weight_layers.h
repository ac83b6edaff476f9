#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"

#include "engine/graph/graph.h"

namespace normlab::engine {

// A tensor in an arena, in floats.
struct TensorRange {
  int64_t offset = 0;
  int64_t count = 0;

  template <typename T>
  absl::Span<T> Of(absl::Span<T> arena) const {
    return arena.subspan(static_cast<size_t>(offset), static_cast<size_t>(count));
  }
};

// A weight layer (linear or convolution) with what belongs to it, in the order of the network.
struct WeightLayer {
  std::string name;
  std::string
      normalizer;  // that normalizes its output, before or after the activation; empty: none
  std::string activation;  // that its output goes through; empty: none
  // What the activation reads: the normalizer's output, the layer's own or a sum's; empty: no activation.
  std::string activation_input;
  // False where the normalizer follows the activation.
  bool normalized_before_activation = false;
  // True where a change of the weights' scale changes nothing that comes after the normalizer.
  bool scale_invariant = false;
  TensorRange weight;                   // its weights (of weight norm: v)
  std::vector<TensorRange> parameters;  // all of the layer and of its normalizer
};

// All weight layers of a network. A normalizer or activation belongs to the layer whose output reaches it directly,
// beside a skip connection or through sums and scales; past a sum only an activation is looked for. Pure.
std::vector<WeightLayer> FindWeightLayers(const Graph& graph);

// A normalizer that owns gamma or beta.
struct AffineNormalizer {
  std::string name;
  TensorRange gamma;  // count 0: none
  TensorRange beta;
};
std::vector<AffineNormalizer> FindAffineNormalizers(const Graph& graph);

// The ranges of all weights (not biases, gammas and betas).
std::vector<TensorRange> WeightRanges(const Graph& graph);

}  // namespace normlab::engine
