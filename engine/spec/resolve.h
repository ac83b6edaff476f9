#pragma once

#include <cstdint>

#include "normlab/v1/spec.pb.h"

namespace normlab::engine {

// The spec with every default written out: oneofs chosen, optional scalars set, UNSPECIFIED enums
// replaced, an MLP's hidden widths listed, a CNN's default blocks and every block's sizes given,
// a custom model's layers named and linked, the data folder named, the budget set. This is what the
// engine runs. A field without a default // (time_limit, labels, ...) is copied, and what depends on the sizes of a layer stays unset (groups
// of group norm; whether a layer of a custom model has a bias).
//
// For specs that Validate accepts; total for any other (an absurd depth is not expanded).
// Idempotent. Pure; thread-safe.
v1::JobSpec Resolve(const v1::JobSpec& spec);

// The same for a normalizer on its own, for batches of `batch_size` examples.
v1::Normalizer Resolve(const v1::Normalizer& normalizer, int64_t batch_size);

// Whether "before" and "after the activation" differ for it. `normalizer`: from Resolve.
bool HasPlacement(const v1::Normalizer& normalizer);

}  // namespace normlab::engine
