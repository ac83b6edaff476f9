#pragma once

#include "absl/types/span.h"

namespace normlab::engine {

// Arithmetic over whole arenas, in double, over fixed pieces: the number of threads changes no bit. Sizes of the arguments
// are equal. Pure; the OpenMP threads of the caller compute.

double Dot(absl::Span<const float> a, absl::Span<const float> b);
double SquaredNorm(absl::Span<const float> a);
// |a - b|^2.
double SquaredDistance(absl::Span<const float> a, absl::Span<const float> b);
// to = a + factor b. `to` may be a or b.
void AddScaled(absl::Span<const float> a,
               double factor,
               absl::Span<const float> b,
               absl::Span<float> to);

}  // namespace normlab::engine
