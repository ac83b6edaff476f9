#pragma once

#include <string>
#include <vector>

#include "engine/spec/run_length.h"

#include "normlab/v1/spec.pb.h"

namespace normlab::engine {

// What a schedule says that this run will never see, which is most often a slip: milestones at or
// beyond the end, a warm-up that is not over then, a step schedule without milestones. `resolved`:
// from Resolve, valid. Pure; thread-safe.
std::vector<std::string> ScheduleWarnings(const v1::JobSpec& resolved, const RunLength& length);

}  // namespace normlab::engine
