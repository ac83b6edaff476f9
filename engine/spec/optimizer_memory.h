#pragma once

#include "normlab/v1/spec.pb.h"

namespace normlab::engine {

// Floats of state that an optimizer keeps for every parameter, for estimates of memory; the number
// of slots of the optimizer that MakeOptimizer (engine/optim/optimizer.h) makes. `resolved`: from
// Resolve. Pure; thread-safe.
int OptimizerSlotCount(const v1::Optimizer& resolved);

}  // namespace normlab::engine
