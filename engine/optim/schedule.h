#pragma once

#include <cstdint>

#include "engine/spec/run_length.h"

#include "normlab/v1/spec.pb.h"

namespace normlab::engine {

// The learning rate of update `step` (0 to length.total_steps - 1): the optimizer's, times what the
// schedule says, in double. With T = length.total_steps:
//   constant   1
//   step       factor^k after k milestones, as torch's MultiStepLR; a milestone in epochs is that
//              many times length.steps_per_epoch updates
//   cosine     f + (1 - f)*(1 + cos(pi*step/T))/2, f = final_factor, as CosineAnnealingLR
//   one_cycle  as OneCycleLR with cosine annealing: the peak is at step warmup_share*T - 1, the end
//              at T - 1
// During the first warmup_steps N, step t uses (t + 1)/N of that.
//
// `resolved`: from Resolve, valid. A pure function, so a resumed run needs no state for it.
// Thread-safe; allocates nothing.
double LearningRateAt(const v1::JobSpec& resolved, int64_t step, const RunLength& length);

}  // namespace normlab::engine
