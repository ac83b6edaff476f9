#pragma once

#include "absl/types/span.h"

#include "engine/graph/graph.h"

#include "normlab/v1/spec.pb.h"

namespace normlab::engine {

// Fills the parameter arena of `graph` with initial values.
//   pytorch_default          weights and biases U(-1/sqrt(fan_in), 1/sqrt(fan_in)), as
//   torch.nn.Linear and Conv2d he_normal, he_uniform    weights of variance 2/fan_in (He et al.
//   2015), biases 0 glorot_normal, _uniform  weights of variance 2/(fan_in + fan_out) (Glorot and
//   Bengio 2010), biases 0
// gamma 1, beta 0. Weights (and nothing else) are multiplied by `scale`. Value i of a tensor is a
// pure function of (seed, "init/<tensor>", i): it depends neither on other tensors nor on threads.
//
// `resolved`: valid, from Resolve. `parameters`: [graph.parameter_floats()], zero in the gaps.
// Thread-safe.
void InitializeParameters(const v1::JobSpec& resolved,
                          const Graph& graph,
                          absl::Span<float> parameters);

}  // namespace normlab::engine
