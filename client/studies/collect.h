#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "client/lib/client.h"
#include "client/studies/run.h"

#include "normlab/v1/experiments.pb.h"

namespace normlab::client::studies {

// Reads all that the experiments of a run measured: one experiment for each part of the plan, complete with cells. Jobs that
// are not over come with what they have; one that was deleted stays QUEUED without a name. Several calls at a time; blocks.
// FAILED_PRECONDITION: an experiment has other cells than the plan (it is of another version of the study); else the
// client's errors. Thread-safe.
absl::StatusOr<Run> Collect(Client& client,
                            const Plan& plan,
                            const std::vector<v1::Experiment>& experiments);

// The plan of a run that was started before: that of the study's data with the base and the seeds of the experiments.
// NOT_FOUND: no such study, preset or part any more.
absl::StatusOr<Plan> PlanOfExperiments(const std::vector<v1::Experiment>& experiments);

}  // namespace normlab::client::studies
