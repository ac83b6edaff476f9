#pragma once

#include <vector>

#include "engine/spec/violation.h"

#include "normlab/v1/spec.pb.h"

namespace normlab::engine {

// Checks everything that a spec alone can tell, before any file is read: required parts, ranges,
// unknown enum numbers (proto3 enums are open), texts, labels, contradictions, fields of a newer
// contract. Returns every violation at once, in the order of the contract (at most kMaxViolations
// and a summary); empty: the spec is valid. Accepts submitted and resolved specs alike.
//
// Pure and total: any message gets an answer. Thread-safe.
std::vector<Violation> Validate(const v1::JobSpec& spec);

}  // namespace normlab::engine
