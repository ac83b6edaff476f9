#pragma once

#include <cstdint>

namespace normlab::engine {

// The number that these bits are in IEEE 754 binary16: a sign, 5 bits of exponent (bias 15), 10 of
// fraction. Exact; infinities and NaN stay what they are. Thread-safe.
float FromHalf(uint16_t half);

// The same in bfloat16, the upper half of a float.
float FromBfloat16(uint16_t bfloat);

}  // namespace normlab::engine
