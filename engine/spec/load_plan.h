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

// Whether a loading thread pays. Where the set is in memory it does not: scaling a batch takes as
// long as the copy out of the thread's buffer (0.25 ns a value each; with augmentation 0.45), and
// the thread would take its time from a core that computes; there the job's own threads share the
// loading out. It pays where loading waits: sets that may have to be read from the disk, and sets so
// large that reshuffling them is felt. Never in a job with one core. A rule by sizes alone, so that
// the server's memory estimate knows it too.
//
// `resolved`: valid for this shape. Pure; thread-safe.
LoadPlan PlanLoading(const v1::JobSpec& resolved, const DatasetShape& shape);

}  // namespace normlab::engine
