#pragma once

#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"

#include "common/random.h"
#include "engine/dnnl/layout.h"

namespace normlab::engine {

struct ChannelNoiseOptions {
  double mean_range = 0.5;        // n_mu
  double deviation_range = 1.25;  // n_sigma
  double mean_jitter = 0.1;       // r_mu
  double deviation_jitter = 0.1;  // r_sigma, a standard deviation
};

// The noise of noisy batch norm (Santurkar et al. 2018, Algorithm 1). At every step each channel j
// draws mu_j ~ U(-n_mu, n_mu) and sigma_j ~ U(1, n_sigma); each of its values is then scaled by
// N(sigma_j, r_sigma) and shifted by U(mu_j - r_mu, mu_j + r_mu):
//   y = scale x + shift,  d_x = scale d_y.
//
// Every number is a pure function of (seed, layer, step, example, channel, place): it depends
// neither on layout nor on threads, and Backward draws the same scales again instead of keeping
// them. Streams (common/random.h): "noise/<layer>/channels", of whose index 2j comes mu_j and of
// 2j + 1 sigma_j; and "noise/<layer>", whose bits at index (floor(n/2) C + c) area + place serve the
// examples n = 2k (normal: radius times cosine; shift: third word) and 2k + 1 (sine; fourth word).
// Normals are in float, by Box and Muller.
//
// Thread-compatible. Owns two numbers per channel. Nothing allocates after construction.
class ChannelNoise {
 public:
  ChannelNoise(uint32_t seed,
               absl::string_view layer,
               const ChannelBlocking& shape,
               const ChannelNoiseOptions& options);

  // Draws for `step`; call before Forward.
  void BeginStep(uint64_t step);
  // y may be x. Padding becomes 0.
  void Forward(const float* x, float* y) const;
  // After Forward of the same step. d_x may be d_y.
  void Backward(const float* d_y, float* d_x) const;

 private:
  void Apply(bool with_shift, const float* x, float* y) const;

  const ChannelBlocking shape_;
  const ChannelNoiseOptions options_;
  const common::RandomStream values_;
  const common::RandomStream channels_;
  uint64_t step_ = 0;
  std::vector<float> mu_, sigma_;
};

}  // namespace normlab::engine
