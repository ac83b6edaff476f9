#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

#include "engine/layers/normalization/normalizer_math.h"

namespace normlab::engine {

// Activations [batch, channels, area], row-major.
struct ChannelShape {
  int64_t batch = 0;
  int64_t channels = 0;
  int64_t area = 1;
};

// Statistics of channels that are constants: `var` holds what the running statistic of that name
// does (RunningFromMagnitude). Each [channels]; gamma may be empty (1), and var where the formula has
// no scale.
struct GivenStatistics {
  absl::Span<const float> mean;
  absl::Span<const float> var;
  absl::Span<const float> gamma;
};

struct ChannelGradients {
  std::vector<float> d_x;
  std::vector<double> d_gamma;  // [channels]
  std::vector<double> d_beta;   // [channels]
};

// The gradient of y = gamma (x - mean)/s + beta with mean and s given: d_x = gamma/s d_y, d_gamma =
// sum d_y (x - mean)/s, d_beta = sum d_y. Sums in double. For kinds whose layers have no backward
// pass in evaluation and no frozen relative. Pure; thread-safe.
ChannelGradients GradientOfGivenStatistics(const NormalizerFormula& formula,
                                           const ChannelShape& shape,
                                           const GivenStatistics& statistics,
                                           absl::Span<const float> x,
                                           absl::Span<const float> d_y);

}  // namespace normlab::engine
