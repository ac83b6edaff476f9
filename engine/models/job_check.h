#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/graph/graph.h"
#include "engine/graph/memory_estimate.h"
#include "engine/spec/run_length.h"
#include "engine/spec/violation.h"

#include "normlab/v1/spec.pb.h"

namespace normlab::engine {

// What is to be known of a job before it is stored.
struct JobCheck {
  std::vector<Violation> violations;
  // Things the spec allows but that a careful person would want to know.
  std::vector<std::string> warnings;
  // The rest is set when there is no violation.
  std::optional<Graph> graph;
  RunLength length;
  MemoryEstimate memory;
};

// Everything that needs the data set's numbers: CheckData, BuildGraph, the sizes of normalized
// sets, the memory estimate. `resolved`: from Resolve of a spec that Validate accepted. Pure;
// thread-safe.
JobCheck CheckJob(const v1::JobSpec& resolved, const DatasetShape& shape);

}  // namespace normlab::engine
