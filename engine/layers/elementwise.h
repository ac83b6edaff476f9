#pragma once

#include <cstdint>

#include "engine/graph/graph.h"

namespace normlab::engine {

// Plain loops for tensors so small that entering a parallel region would cost more than the work;
// one thread unless said otherwise.

// Up to this many elements the loops here beat oneDNN's primitives on two threads.
inline constexpr int64_t kSmallTensorElements = 32768;

// y = f(x); y may be x.
void ActivationForward(ActivationKind kind, int64_t count, const float* x, float* y);

// d_x = f'(x) d_y, from the output y = f(x); d_x may be d_y.
void ActivationBackward(
    ActivationKind kind, int64_t count, const float* y, const float* d_y, float* d_x);

// y = e^x with VectorExp; y may be x.
void Exponentials(int64_t count, const float* x, float* y);

// Whether one of x is NaN; shared among threads when there is much to look at.
bool HasNan(int64_t count, const float* x);

// oneDNN's ReLU (its own, and the one fused into a batch norm) turns NaN into 0 and its maximum
// pooling loses it too: a run that overflowed would go on at a plausible loss. After such a kernel,
// this makes the first element of `y` NaN when `x`, which holds `count` numbers, has one; later
// layers carry it to the loss.
void KeepNan(int64_t count, const float* x, float* y);

}  // namespace normlab::engine
