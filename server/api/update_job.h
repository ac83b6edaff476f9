#pragma once

#include "absl/status/statusor.h"

#include "server/api/backend.h"
#include "server/api/caller.h"

#include "normlab/v1/jobs.pb.h"

namespace normlab::server {

// Changes what the mask names: display_name, labels, labels.<key> (left out of the job: removed),
// priority; in every state of the job. Waits for the commit. INVALID_ARGUMENT: no mask, a path that
// cannot be changed, or a value that a spec could not have; NOT_FOUND.
absl::StatusOr<v1::Job> HandleUpdateJob(Backend& backend,
                                        const Caller& caller,
                                        const v1::UpdateJobRequest& request);

}  // namespace normlab::server
