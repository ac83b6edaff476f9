#pragma once

#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "server/domain/errors.h"

#include "normlab/v1/experiments.pb.h"

// Errors about experiments. As server/domain/errors.h.
namespace normlab::server {

namespace reason {
inline constexpr absl::string_view kInvalidExperiment = "INVALID_EXPERIMENT";
inline constexpr absl::string_view kExperimentNotFound = "EXPERIMENT_NOT_FOUND";
inline constexpr absl::string_view kExperimentDeleted = "EXPERIMENT_DELETED";
inline constexpr absl::string_view kExperimentUnfinished = "EXPERIMENT_UNFINISHED";
}  // namespace reason

// INVALID_ARGUMENT with every violation, fields below the experiment. `violations` is not empty.
absl::Status InvalidExperiment(const std::vector<FieldViolation>& violations);
// NOT_FOUND. `name` is experiments/<id>.
absl::Status ExperimentNotFound(absl::string_view name);
// NOT_FOUND: the experiment that this request_id made was deleted since.
absl::Status RequestedExperimentDeleted(absl::string_view request_id);
// ALREADY_EXISTS: the request_id was used for another experiment, which it names.
absl::Status ExperimentRequestIdReused(absl::string_view request_id,
                                       absl::string_view experiment_name);
// FAILED_PRECONDITION: some jobs wait or run, so it cannot be deleted.
absl::Status ExperimentNotDeletable(absl::string_view name, int64_t unfinished_jobs);

}  // namespace normlab::server
