#pragma once

#include <cstdint>
#include <vector>

#include "engine/dnnl/layout.h"

namespace normlab::engine {

// Loops of layers whose parameter is one number; shared among OpenMP threads, with the same bits for
// any number of them.

// y = factor * x over memory, padding included (zeros stay zeros); y may be x.
void ScaleBy(int64_t count, float factor, const float* x, float* y);

// y = x + term; padding channels of x are copied, so zeros stay zeros there.
void AddScalar(const ChannelBlocking& blocking, float term, const float* x, float* y);

// Sums over memory in double: of fixed parts, then of the parts in order. Owns room for them; not
// thread-safe.
class ExactSum {
 public:
  ExactSum() = default;
  explicit ExactSum(int64_t count);

  // sum of a * b, or of a when b is null. Allocates nothing.
  double operator()(const float* a, const float* b);

 private:
  int64_t count_ = 0;
  std::vector<double> parts_;
};

}  // namespace normlab::engine
