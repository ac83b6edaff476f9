#include "engine/probes/weight_parts.h"

#include <algorithm>

#include "engine/probes/vector_math.h"

namespace normlab::engine {

WeightParts::WeightParts(const Graph& graph) : weights_(WeightRanges(graph)) {
  std::sort(weights_.begin(), weights_.end(),
            [](const TensorRange& a, const TensorRange& b) { return a.offset < b.offset; });
  int64_t end = 0;
  for (const TensorRange& range : weights_) {
    if (range.offset > end) {
      others_.push_back({.offset = end, .count = range.offset - end});
    }
    end = range.offset + range.count;
  }
  if (graph.parameter_floats() > end) {
    others_.push_back({.offset = end, .count = graph.parameter_floats() - end});
  }
}

template <typename OfRange>
WeightSums WeightParts::Sum(const OfRange& of_range) const {
  WeightSums sums;
  for (const TensorRange& range : weights_) {
    sums.weights += of_range(range);
  }
  sums.all = sums.weights;
  for (const TensorRange& range : others_) {
    sums.all += of_range(range);
  }
  return sums;
}

WeightSums WeightParts::SquaredNorm(absl::Span<const float> arena) const {
  return Sum(
      [&](const TensorRange& range) { return normlab::engine::SquaredNorm(range.Of(arena)); });
}

WeightSums WeightParts::SquaredDistance(absl::Span<const float> a,
                                        absl::Span<const float> b) const {
  return Sum([&](const TensorRange& range) {
    return normlab::engine::SquaredDistance(range.Of(a), range.Of(b));
  });
}

}  // namespace normlab::engine
