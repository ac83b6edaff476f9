#pragma once

#include "engine/layers/plan.h"

namespace normlab::engine {

// Elementwise sums over memory, padding included, of views of one layout (F32, or bf16: computed in
// float and rounded once); shared among OpenMP threads, with the same bits for any number of them.

// y = a + b; y may be a or b.
void Sum(const View& a, const View& b, const View& y);

// y = max(a + b, 0), NaN stays; y may be a or b.
void SumRelu(const View& a, const View& b, const View& y);

// d_x = d_y where y > 0 (or NaN), else 0; d_x may be d_y.
void MaskByOutput(const View& y, const View& d_y, const View& d_x);

// d_x = a + b where y > 0 (or NaN), else 0; d_x may be a or b.
void SumMaskedByOutput(const View& y, const View& a, const View& b, const View& d_x);

}  // namespace normlab::engine
