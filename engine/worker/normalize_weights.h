#pragma once

#include "engine/graph/node.h"

#include "normlab/v1/worker.pb.h"

namespace normlab::engine {

// Normalize for what acts on weights: `input` is v, [O, I] or [O, I, KH, KW], and the output the
// weights that a layer would use. Weight norm has the parameter "weight_g" [O, 1, ...], at first |v|
// (so that the output is v), and shows the statistic "norm" [O]; standardization shows "mean" and
// "std" (unbiased) [O]. `request` has been validated, but for its parameters; `transform` is not
// kNone.
v1::NormalizeResult NormalizeWeights(const v1::NormalizeRequest& request,
                                     WeightTransform transform);

}  // namespace normlab::engine
