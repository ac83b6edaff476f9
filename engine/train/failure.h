#pragma once

#include "absl/status/status.h"

#include "normlab/v1/job.pb.h"

namespace normlab::engine {

// `status` with the reason why the attempt fails attached, for ToFailure. OK stays OK.
absl::Status WithReason(absl::Status status, v1::FailureReason::Kind reason);

// An error as the job's failure: the attached reason; else OUT_OF_MEMORY for RESOURCE_EXHAUSTED and
// INTERNAL for the rest.
v1::Failure ToFailure(const absl::Status& status);

}  // namespace normlab::engine
