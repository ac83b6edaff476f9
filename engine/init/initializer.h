#pragma once

#include "absl/types/span.h"

#include "engine/graph/graph.h"

#include "normlab/v1/spec.pb.h"

namespace normlab::engine {

// Fills the parameter arena of `graph` with initial values. Weights, with fan_in and fan_out of
// their layer:
//   pytorch_default            U(-1/sqrt(fan_in), 1/sqrt(fan_in)), as torch.nn.Linear and Conv2d
//   he_normal, he_uniform      variance 2/fan_in (He et al. 2015)
//   glorot_normal, _uniform    variance 2/(fan_in + fan_out) (Glorot and Bengio 2010)
//   lecun_normal               N(0, 1/fan_in)
//   fan_in_normal              N(0, gain^2/fan_in)
//   normal                     N(0, std^2)
//   orthogonal                 rows or columns of [out, fan_in] orthonormal, see FillOrthogonal
// and all of them times the initializer's `scale` (with scale_hidden_only, but for the last weights of the list). Biases are drawn like weights (without the
// scale) by pytorch_default and are 0 otherwise. Of the others gamma and scalar multipliers start
// at 1, alpha at 0.5, a gain of weight norm at the norm of its unit's weights, the rest at 0.
//
// A ParameterSpec may say otherwise: `constant` fills, `std` draws from N(0, std^2) whatever the
// initializer and its scale are, and its own `scale` multiplies what is drawn.
//
// Value i of a tensor is a pure function of (seed, "init/<tensor>", i), or of all values of that
// tensor for orthogonal and gains: it depends neither on other layers nor on threads.
//
// `resolved`: valid, from Resolve. `parameters`: [graph.parameter_floats()], zero in the gaps.
// Thread-safe.
void InitializeParameters(const v1::JobSpec& resolved,
                          const Graph& graph,
                          absl::Span<float> parameters);

// The same for the tensors of a list; a gain finds its weights in it by the layer's name.
void InitializeTensors(const v1::JobSpec& resolved,
                       absl::Span<const ParameterSpec> tensors,
                       absl::Span<float> parameters);

// Sets a gain of weight norm to the norm of its unit's weights, so that w = v, as data-independent
// initialization does. `tensors` has the weights of its layer.
void SetGainToNorms(absl::Span<const ParameterSpec> tensors,
                    const ParameterSpec& gain,
                    absl::Span<float> parameters);

}  // namespace normlab::engine
