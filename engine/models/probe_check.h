#pragma once

#include <cstdint>
#include <vector>

#include "engine/graph/graph.h"
#include "engine/spec/violation.h"

#include "normlab/v1/spec.pb.h"

namespace normlab::engine {

// Whether the layers that probes name exist, and whether there is anything for them to look at. Pure; thread-safe.
std::vector<Violation> CheckProbes(const v1::JobSpec& resolved,
                                   const Graph& graph,
                                   int64_t train_examples);

}  // namespace normlab::engine
