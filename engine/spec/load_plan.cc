#include "engine/spec/load_plan.h"

#include <algorithm>

namespace normlab::engine {
LoadPlan PlanLoading(const v1::JobSpec& /*resolved*/, const DatasetShape& /*shape*/) {
  return {};
}
}  // namespace normlab::engine
