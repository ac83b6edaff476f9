#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "server/api/backend.h"

#include "normlab/v1/job.pb.h"
#include "normlab/v1/records.pb.h"

namespace normlab::server {

// One of server/domain/transitions.h.
using JobTransition = absl::Status (*)(v1::Job& job,
                                       absl::Time now,
                                       std::vector<v1::Segment>& records);

// Applies a person's wish to the job `name`, waits for the commit, counts and logs the change of
// state if there is one, and tells the controller. Answers the job as it is then. INVALID_ARGUMENT:
// not a job's name; NOT_FOUND; the transition's own refusal. Blocks for disk.
absl::StatusOr<v1::Job> ApplyTransition(Backend& backend,
                                        const std::string& name,
                                        JobTransition transition);

}  // namespace normlab::server
