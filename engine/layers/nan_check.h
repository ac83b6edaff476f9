#pragma once

#include <cstdint>

#include "engine/layers/plan.h"

namespace normlab::engine {

// Whether one of x is NaN; shared among threads when there is much to look at.
bool HasNan(int64_t count, const float* x);

// The same of a tensor of either type, padding included.
bool HasNan(const View& x);

}  // namespace normlab::engine
