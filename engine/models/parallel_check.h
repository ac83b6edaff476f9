#pragma once

#include "engine/graph/graph.h"
#include "engine/models/build_graph.h"
#include "engine/models/job_check.h"

#include "normlab/v1/spec.pb.h"

namespace normlab::engine {

// Rules of data_parallel that need the network and the data set's numbers: every rank needs an
// example of an incomplete last batch; what belongs to one process's batch (the noise of noisy batch
// norm, ghost batches that shares cut, weight norm's first batch, probes that look at a batch) is
// refused. `built`: with a graph. Pure.
void CheckDataParallel(const v1::JobSpec& resolved, const BuiltGraph& built, JobCheck& check);

// Whether what one example becomes in training depends on others of its batch. Pure.
bool HasBatchStatistics(const Graph& graph);

}  // namespace normlab::engine
