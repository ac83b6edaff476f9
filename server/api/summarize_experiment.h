#pragma once

#include "absl/status/statusor.h"

#include "server/api/backend.h"
#include "server/api/caller.h"

#include "normlab/v1/experiments.pb.h"

namespace normlab::server {

// Statistics of the last values of some series over the seeds of every cell, from the jobs that
// SUCCEEDED. Blocks for disk. NOT_FOUND; INVALID_ARGUMENT: a confidence outside (0, 1), a baseline
// that is no cell, a series that no job has, with the nearest that some have, or more series than an
// answer of 4 MiB holds, told before their values are read where the names alone tell it.
absl::StatusOr<v1::ExperimentSummary> HandleSummarizeExperiment(
    Backend& backend, const Caller& caller, const v1::SummarizeExperimentRequest& request);

}  // namespace normlab::server
