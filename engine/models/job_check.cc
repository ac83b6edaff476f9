#include "engine/models/job_check.h"

#include <string>
#include <utility>

#include "engine/models/build_graph.h"
#include "engine/models/normalized_sets.h"
#include "engine/models/probe_check.h"
#include "engine/spec/schedule_warnings.h"

namespace normlab::engine {

JobCheck CheckJob(const v1::JobSpec& resolved, const DatasetShape& shape) {
  JobCheck check;
  check.violations = CheckData(resolved, shape);
  check.length = ComputeRunLength(resolved, shape);
  BuiltGraph built = BuildGraph(resolved, shape);
  check.violations.insert(check.violations.end(), built.violations.begin(), built.violations.end());
  if (built.graph.has_value()) {
    CheckNormalizedSets(resolved, built, check);
    for (Violation& violation : CheckProbes(resolved, *built.graph)) {
      check.violations.push_back(std::move(violation));
    }
  }
  if (resolved.convolution_algorithm() == v1::ConvolutionAlgorithm::MEASURE) {
    check.warnings.push_back(
        "convolution_algorithm is MEASURE: every start measures anew, so a repeated, retried or "
        "resumed "
        "run may compute with other kernels and differ in the last digits; use AUTO for runs that "
        "repeat bit for bit");
  }
  for (std::string& warning : ScheduleWarnings(resolved, check.length)) {
    check.warnings.push_back(std::move(warning));
  }
  if (check.violations.empty()) {
    check.memory = EstimateJobMemory(resolved, *built.graph, shape);
    check.graph = std::move(built.graph);
  }
  return check;
}

}  // namespace normlab::engine
