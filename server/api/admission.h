#pragma once

#include <vector>

#include "absl/strings/string_view.h"

#include "engine/spec/violation.h"
#include "server/api/backend.h"
#include "server/domain/errors.h"

#include "normlab/v1/job.pb.h"
#include "normlab/v1/worker.pb.h"

namespace normlab::server {

// What is decided of a submitted spec before it is stored.
struct Admission {
  // The job as it would be stored, without name, owner, state and times. Complete when there is no
  // violation.
  v1::Job job;
  // Everything that is wrong, in the order spec, data, network, fit.
  std::vector<FieldViolation> violations;
};

// Whether any of the violations is about `part` of the spec (a field of JobSpec) or below it.
bool Concerns(const std::vector<engine::Violation>& violations, absl::string_view part);

// Decides. `spec_violations`: engine::Validate(spec). `data`: what the helper found, null when it
// was not asked because the spec's data section is wrong already. The network is checked even when
// the data is missing, where the shape of an example is known from the data set's kind (it is not for
// a user's own arrays). A job that fits only
// an idle server is accepted; one that needs more cores or memory than the server has is not. Pure;
// thread-safe. May take some milliseconds for a huge network.
Admission Admit(const v1::JobSpec& spec,
                const std::vector<engine::Violation>& spec_violations,
                const v1::DataReport* data,
                const ApiOptions& options);

}  // namespace normlab::server
