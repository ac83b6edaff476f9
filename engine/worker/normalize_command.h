#pragma once

#include "normlab/v1/worker.pb.h"

namespace normlab::engine {

// Applies a normalizer to the tensors of a request (proto/normlab/v1/normalization.proto): one
// layer, planned for this input and run forward and, given an output gradient, backward. Answers
// with violations (fields are paths below the request), a failure of ours, or the response. The
// noise of noisy_batch comes from the streams of a layer called "normalizer".
//
// With INFERENCE an output gradient goes through running statistics as constants.
//
// Computes on the calling thread and its OpenMP threads; may throw std::bad_alloc. Needs about six
// times the memory of the input.
v1::NormalizeResult Normalize(const v1::NormalizeRequest& request);

}  // namespace normlab::engine
