#pragma once

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"

#include "server/api/backend.h"
#include "server/api/caller.h"

#include "normlab/v1/experiments.pb.h"

namespace normlab::server {

// Checks a design and the spec of each of its cells, and stores experiment and jobs; answers when
// they are durable, on a thread of the pool. No thread waits meanwhile, and a large design is checked
// in slices, between which other calls get the pool's threads. Must be called on a thread of the
// pool. `request` is used only during the call; `backend` must outlive the answer.
//   INVALID_ARGUMENT: violations of the design, or of the cells' specs, or a bad request_id
//   ALREADY_EXISTS: request_id was used for another experiment
//   RESOURCE_EXHAUSTED: the queue has no room, too many creations at once, or the disk is full
//   UNAVAILABLE: shutting down; INTERNAL, DEADLINE_EXCEEDED: the helper failed on the data files
void StartCreateExperiment(Backend& backend,
                           const Caller& caller,
                           const v1::CreateExperimentRequest& request,
                           absl::AnyInvocable<void(absl::StatusOr<v1::Experiment>) &&> done);

}  // namespace normlab::server
