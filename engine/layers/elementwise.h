#pragma once

#include <cstdint>

#include "engine/graph/graph.h"

namespace normlab::engine {

// Plain loops for tensors so small that entering a parallel region would cost more than the work;
// one thread unless said otherwise.

// Of leaky ReLU below 0.
inline constexpr float kLeakySlope = 0.01F;

// Up to this many elements the loops here beat oneDNN's primitives on two threads.
inline constexpr int64_t kSmallTensorElements = 32768;

// y = f(x); y may be x. Not for GELU, which only oneDNN computes. SELU alone is shared among threads.
void ActivationForward(ActivationKind kind, int64_t count, const float* x, float* y);

// Whether the gradient needs x (GELU and SiLU, which have no inverse); else it needs y.
bool BackwardNeedsInput(ActivationKind kind);

// d_x = f'(x) d_y, from `data`: x or y, see BackwardNeedsInput; d_x may be d_y.
void ActivationBackward(
    ActivationKind kind, int64_t count, const float* data, const float* d_y, float* d_x);

// y = e^x with VectorExp; y may be x.
void Exponentials(int64_t count, const float* x, float* y);

}  // namespace normlab::engine
