#pragma once

#include "engine/models/build_graph.h"
#include "engine/models/job_check.h"

#include "normlab/v1/spec.pb.h"

namespace normlab::engine {

// Finds normalizers whose sets have one value, which is always 0 or +-1 afterwards, whatever it was
// (violations), or two (warnings): per channel over the batch or a part of it, for full training
// batches and for a kept last one; per example over an image, a group of channels or all values.
// Also a kept last batch that ghost batches do not divide. Adds to `check`, whose length must be set.
// `built` has a graph. Internal to engine/models; pure.
void CheckNormalizedSets(const v1::JobSpec& resolved, const BuiltGraph& built, JobCheck& check);

}  // namespace normlab::engine
