#pragma once

#include "absl/status/statusor.h"
#include "google/protobuf/empty.pb.h"

#include "server/api/backend.h"
#include "server/api/caller.h"

#include "normlab/v1/experiments.pb.h"

// Handlers of Experiments that read and end experiments. They block for disk; owners are checked
// before. Thread-safe.
namespace normlab::server {

// NOT_FOUND.
absl::StatusOr<v1::Experiment> HandleGetExperiment(Backend& backend,
                                                   const Caller& caller,
                                                   const v1::GetExperimentRequest& request);

// Those of the caller's owner; an admin gets all. INVALID_ARGUMENT: page_size, page_token.
absl::StatusOr<v1::ListExperimentsResponse> HandleListExperiments(
    Backend& backend, const Caller& caller, const v1::ListExperimentsRequest& request);

// Asks for the end of every job that is not terminal, running ones first, then in the order of the
// queue; some hundred a commit, so that a crash in between leaves the rest as it was: cancel again.
// Harmless when there is none. NOT_FOUND; RESOURCE_EXHAUSTED: too many of these at once.
absl::StatusOr<v1::Experiment> HandleCancelExperiment(Backend& backend,
                                                      const Caller& caller,
                                                      const v1::CancelExperimentRequest& request);

// NOT_FOUND, unless allow_missing; FAILED_PRECONDITION: jobs wait or run, unless `force`, which
// cancels them and waits for their end; DEADLINE_EXCEEDED: some have not ended within 45 s.
absl::StatusOr<google::protobuf::Empty> HandleDeleteExperiment(
    Backend& backend, const Caller& caller, const v1::DeleteExperimentRequest& request);

}  // namespace normlab::server
