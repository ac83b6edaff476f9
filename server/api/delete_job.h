#pragma once

#include "absl/status/statusor.h"
#include <google/protobuf/empty.pb.h>

#include "server/api/backend.h"
#include "server/api/caller.h"

#include "normlab/v1/jobs.pb.h"

namespace normlab::server {

// Deletes a job that has ended or is paused: it is gone for everybody when this returns. With `force`
// also any other, after a cancellation and its end, which takes a step and at worst half a minute.
// INVALID_ARGUMENT: not a job's name; NOT_FOUND, unless `allow_missing`; FAILED_PRECONDITION: it
// waits or runs, and there is no `force`; RESOURCE_EXHAUSTED with RetryInfo: several forced
// deletions wait already; DEADLINE_EXCEEDED: it was cancelled, but did not end in time.
absl::StatusOr<google::protobuf::Empty> HandleDeleteJob(Backend& backend,
                                                        const Caller& caller,
                                                        const v1::DeleteJobRequest& request);

}  // namespace normlab::server
