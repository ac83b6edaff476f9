#pragma once

#include "absl/status/statusor.h"

#include "server/api/backend.h"
#include "server/api/caller.h"

#include "normlab/v1/jobs.pb.h"

namespace normlab::server {

// Puts a paused job back into the queue, or takes back a pause that has not taken effect. Waits for
// the commit. INVALID_ARGUMENT: not a job's name; NOT_FOUND; FAILED_PRECONDITION: it is neither
// paused nor pausing.
absl::StatusOr<v1::Job> HandleResumeJob(Backend& backend,
                                        const Caller& caller,
                                        const v1::ResumeJobRequest& request);

}  // namespace normlab::server
