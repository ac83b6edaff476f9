#pragma once

#include <cstdint>

namespace normlab::engine {

// Elementwise sums over memory, layout and padding included; shared among OpenMP threads, with the
// same bits for any number of them.

// y = a + b; y may be a or b.
void Sum(int64_t count, const float* a, const float* b, float* y);

// y = max(a + b, 0), NaN stays; y may be a or b.
void SumRelu(int64_t count, const float* a, const float* b, float* y);

// d_x = d_y where y > 0 (or NaN), else 0; d_x may be d_y.
void MaskByOutput(int64_t count, const float* y, const float* d_y, float* d_x);

}  // namespace normlab::engine
