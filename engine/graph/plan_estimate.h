#pragma once

#include <cstdint>

#include "engine/graph/graph.h"
#include "engine/graph/memory_estimate.h"

namespace normlab::engine {

struct PlanSize {
  int64_t batch = 0;
  bool training = true;
  // Activations and the weights that layers compute with.
  bool bf16 = false;
  WinogradUse winograd = WinogradUse::kWide;
  int threads = 1;
};

struct PlanEstimate {
  int64_t activations = 0;  // bytes of input, outputs, gradients, copies and scratch memory
  int64_t weights = 0;      // bytes of working copies
};

// An upper estimate of the memory of one plan of the graph. Follows the plan's passes, forwards and
// backwards, with what each leaves behind for later ones and needs for itself, and takes the time
// when most is needed; what depends on the layouts and algorithms that oneDNN chooses is counted as
// the largest that they may be. Saturates. Internal to engine/graph; pure.
PlanEstimate EstimatePlan(const Graph& graph, const PlanSize& size);

}  // namespace normlab::engine
