#pragma once

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"

#include "server/api/backend.h"
#include "server/api/caller.h"

#include "normlab/v1/jobs.pb.h"

namespace normlab::server {

// Checks a job and stores it; answers when it is durable, on a thread of the pool. No thread waits
// meanwhile: the helper and the store answer by callback. Must be called on a thread of the pool.
// `request` is used only during the call; `backend` must outlive the answer.
//   INVALID_ARGUMENT: every violation of the spec at once, or a bad request_id
//   ALREADY_EXISTS: request_id was used with another spec
//   RESOURCE_EXHAUSTED: too many creations at once, or the disk is full; UNAVAILABLE: shutting down
//   INTERNAL, DEADLINE_EXCEEDED: the helper failed on the data files
void StartCreateJob(Backend& backend,
                    const Caller& caller,
                    const v1::CreateJobRequest& request,
                    absl::AnyInvocable<void(absl::StatusOr<v1::Job>) &&> done);

}  // namespace normlab::server
