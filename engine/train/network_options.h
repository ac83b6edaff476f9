#pragma once

#include <cstdint>

#include "engine/spec/run_length.h"
#include "engine/train/network.h"

#include "normlab/v1/spec.pb.h"

namespace normlab::engine {

// How the networks of a job are planned: what a valid, resolved spec and its data set say of
// precision, convolutions, seed, threads and the kind of targets. Pure; thread-safe.
NetworkOptions OptionsOf(const v1::JobSpec& resolved,
                         const DatasetShape& shape,
                         Mode mode,
                         int64_t batch_size);

}  // namespace normlab::engine
