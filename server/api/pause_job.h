#pragma once

#include "absl/status/statusor.h"

#include "server/api/backend.h"
#include "server/api/caller.h"

#include "normlab/v1/jobs.pb.h"

namespace normlab::server {

// Makes the wish to pause durable and tells the controller; a queued job is PAUSED in the answer
// already, a running one when its checkpoint is committed. Repeating it is harmless. Waits for the
// commit. INVALID_ARGUMENT: not a job's name; NOT_FOUND; FAILED_PRECONDITION: it has ended, or is
// being cancelled.
absl::StatusOr<v1::Job> HandlePauseJob(Backend& backend,
                                       const Caller& caller,
                                       const v1::PauseJobRequest& request);

}  // namespace normlab::server
