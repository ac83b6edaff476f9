#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/strings/string_view.h"

#include "engine/layers/reference.h"

// Every normalizer in double precision, as plain loops over the definitions; used by tests only. All
// tensors are row-major, activations [batch, channels, area].
namespace normlab::engine::reference {

// The places in x that are normalized together.
using Set = std::vector<int64_t>;
// Per channel, over parts of so many examples (the batch itself: one part). Ordered by part, then
// channel.
std::vector<Set> BatchSets(const NormShape& shape, int64_t examples_per_set);
// Per example, over groups of neighbouring channels: one group is layer norm, as many as channels
// instance norm. Ordered by example, then group.
std::vector<Set> GroupSets(const NormShape& shape, int64_t groups);

enum class Divisor {
  kOne,
  kDeviation,        // sqrt(biased variance + epsilon)
  kRootMeanSquare,   // sqrt(mean x^2 + epsilon)
  kMeanAbsolute,     // mean |x| + epsilon
  kMaximumAbsolute,  // max |x| + epsilon
};

// Batch renormalization's r and d of one set.
struct Renorm {
  double r = 1;
  double d = 0;
};

// y = gamma ((x - mean)/s r + d) + beta, then the larger of y and tau. Empty: gamma 1, beta 0, no
// tau, r 1 and d 0, statistics of the set itself.
struct SetNormalizer {
  NormShape shape;
  std::vector<Set> sets;
  bool centred = true;
  Divisor divisor = Divisor::kDeviation;
  double epsilon = 0;
  Tensor gamma, beta, tau;     // [channels]
  std::vector<Renorm> renorm;  // per set; constants
  // Per channel, instead of those of the sets: mean, and in place of the variance what
  // UpdatedRunning keeps there.
  std::optional<Statistics> given;
};

Tensor Forward(const SetNormalizer& normalizer, const Tensor& x);

struct NormalizerGradients {
  Tensor d_x, d_gamma, d_beta, d_tau;
};
// By the chain rule through s and mean; of equal largest magnitudes the first (by example, then
// place) gets the gradient.
NormalizerGradients Backward(const SetNormalizer& normalizer, const Tensor& x, const Tensor& d_y);

// r and d of every set, given running statistics.
std::vector<Renorm> RenormOf(const SetNormalizer& normalizer,
                             const Tensor& x,
                             const Statistics& running,
                             double r_max,
                             double d_max);

// Running statistics after one update with the mean over the sets of a channel (batch sets only):
// mean, and the unbiased variance or the divisor without epsilon.
Statistics UpdatedRunning(const SetNormalizer& normalizer,
                          const Tensor& x,
                          double rate,
                          const Statistics& running);

// y = gamma tanh(alpha x) + beta.
Tensor DynamicTanhForward(
    const NormShape& shape, double alpha, const Tensor& gamma, const Tensor& beta, const Tensor& x);
struct DynamicTanhGradients {
  Tensor d_x, d_gamma, d_beta;
  double d_alpha = 0;
};
DynamicTanhGradients DynamicTanhBackward(
    const NormShape& shape, double alpha, const Tensor& gamma, const Tensor& x, const Tensor& d_y);

// w = g v/|v|; v, w [outputs, fan_in], g [outputs].
Tensor WeightNormForward(int64_t outputs, const Tensor& v, const Tensor& g);
struct WeightNormGradients {
  Tensor d_v, d_g;
};
WeightNormGradients WeightNormBackward(int64_t outputs,
                                       const Tensor& v,
                                       const Tensor& g,
                                       const Tensor& d_w);

// w = (v - mean)/(unbiased standard deviation + 1e-5) per output.
Tensor WeightStandardizationForward(int64_t outputs, const Tensor& v);
Tensor WeightStandardizationBackward(int64_t outputs, const Tensor& v, const Tensor& d_w);

// Scales and shifts of Santurkar et al.'s Algorithm 1 for every value, from the streams of
// ChannelNoise (channel_noise.h) in double.
struct NoiseOptions {
  double mean_range, deviation_range, mean_jitter, deviation_jitter;
};
struct Noise {
  Tensor scale, shift;
};
Noise DrawNoise(uint32_t seed,
                absl::string_view layer,
                uint64_t step,
                const NormShape& shape,
                const NoiseOptions& options);

}  // namespace normlab::engine::reference
