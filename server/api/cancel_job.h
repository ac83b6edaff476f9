#pragma once

#include "absl/status/statusor.h"

#include "server/api/backend.h"
#include "server/api/caller.h"

#include "normlab/v1/jobs.pb.h"

namespace normlab::server {

// Makes the wish to cancel durable and tells the controller; a queued job is CANCELLED in the
// answer already. Waits for the commit. INVALID_ARGUMENT: not a job's name; NOT_FOUND;
// FAILED_PRECONDITION: ended otherwise already.
absl::StatusOr<v1::Job> HandleCancelJob(Backend& backend,
                                        const Caller& caller,
                                        const v1::CancelJobRequest& request);

}  // namespace normlab::server
