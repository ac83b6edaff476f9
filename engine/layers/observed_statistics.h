#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"

#include "engine/graph/graph.h"

namespace normlab::engine {

struct ObservedStatistic {
  std::string name;
  Dims dims;  // of the sets: [C], [N], [N, G], ...
  std::vector<double> values;
};

// The statistics that a normalizer takes of its input in training, in double (two passes) and
// straight from the definitions, for people to look at: layers keep theirs in whatever form they
// compute best. `x` is row-major, `batch` examples of the shape `in`.
//   "mean", "var" (biased): of batch [C], ghost batch [parts, C], group [N, G] and layer norm [N];
//   "mean_square": of RMS [N] and filter response norm [N, C];
//   "mean", "scale" ((mean |x|^p)^(1/p), or max |x|): of l_p batch norm [C]; "mean" [C]: mean-only.
// None for layers without statistics of their own. Pure; thread-safe; allocates.
std::vector<ObservedStatistic> ObserveStatistics(const NodeKind& kind,
                                                 const Dims& in,
                                                 int64_t batch,
                                                 absl::Span<const float> x);

}  // namespace normlab::engine
