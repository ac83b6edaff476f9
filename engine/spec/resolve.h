#pragma once

#include "normlab/v1/spec.pb.h"

namespace normlab::engine {

// The spec with every default written out: oneofs chosen, optional scalars set, UNSPECIFIED enums
// replaced, an MLP's hidden widths listed, a CNN's default blocks and every block's sizes given,
// the data folder named, the budget set. This is what the engine runs. A field without a default
// (time_limit, labels, ...) is copied.
//
// For specs that Validate accepts; total for any other (an absurd depth is not expanded).
// Idempotent. Pure; thread-safe.
v1::JobSpec Resolve(const v1::JobSpec& spec);

}  // namespace normlab::engine
