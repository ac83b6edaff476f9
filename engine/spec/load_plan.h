#pragma once

#include <cstdint>

#include "engine/spec/run_length.h"

#include "normlab/v1/spec.pb.h"

namespace normlab::engine {

// How training batches get from the data set to the network.
struct LoadPlan {
  // A thread of its own prepares the next batch while one trains.
  bool prefetch_thread = false;
  // Bytes of the batches that it keeps.
  int64_t buffer_bytes = 0;
};

// Whether a loading thread pays: it costs a copy of every batch and time on the job's own cores, so
// only where loading takes much longer than the copy, and never in a job with one core. A rule by
// sizes alone, so that the server's memory estimate knows it too. `resolved`: valid. Pure;
// thread-safe.
LoadPlan PlanLoading(const v1::JobSpec& resolved, const DatasetShape& shape);

}  // namespace normlab::engine
