#pragma once

#include <optional>
#include <vector>

#include "absl/status/status.h"

#include "engine/spec/violation.h"
#include "server/api/backend.h"

#include "normlab/v1/spec.pb.h"
#include "normlab/v1/worker.pb.h"

// What the helper process is asked about a submitted spec, and what its failures mean. Pure;
// thread-safe.
namespace normlab::server {

// Empty when the spec's data section is missing or wrong already, and when there is nothing to look at: a
// synthetic set is known without (Admit), unless the spec has initial weights, or a precision that not
// every machine computes in. `violations`:
// engine::Validate(spec).
std::optional<v1::HelperRequest> InspectionOf(const v1::JobSpec& spec,
                                              const std::vector<engine::Violation>& violations,
                                              const ApiOptions& options);

// What a caller is told of a call of the helper that failed: DEADLINE_EXCEEDED, UNAVAILABLE
// (shutting down), RESOURCE_EXHAUSTED with
// RetryInfo (too many of this owner's wait), INTERNAL.
absl::Status InspectionFailed(const absl::Status& failure, const ApiOptions& options);

}  // namespace normlab::server
