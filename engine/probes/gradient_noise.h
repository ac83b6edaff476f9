#pragma once

#include <string>
#include <vector>

#include "engine/probes/probe.h"
#include "engine/probes/probe_workspace.h"
#include "engine/probes/weight_parts.h"

namespace normlab::engine {

// Moments of the gradient over independent fresh batches, and the noise scale, at the step's weights.
//
// With K batches of size b, M2 = mean |g_k|^2 and m = |mean g_k|^2: variance = K/(K-1) (M2 - m), the unbiased trace of
// the covariance of a batch's gradient (Peng et al. 2023); |G|^2 = (K m - M2)/(K-1), unbiased for the squared norm of the
// true gradient; noise scale = b variance / |G|^2 (McCandlish et al. 2018, with batches b and Kb), times (N - 1)/(N - b),
// because a batch repeats none of the N examples; NaN for b = N. A |G|^2 that is not positive (far below the variance a few
// batches cannot tell it from 0) leaves the scale NaN. All four over every trainable parameter and, in a second series, over
// the weights alone. Costs a forward and backward pass a batch.
class GradientNoiseProbe final : public Probe {
 public:
  // batches >= 2; `examples`: of the training set. The workspace must have training plans and outlive the probe.
  GradientNoiseProbe(ProbeWorkspace& workspace, int batches, int64_t batch_size, int64_t examples);

  const std::vector<std::string>& series() const override { return series_; }
  void BeforeUpdate(const ProbeStep& step, absl::Span<double> values) override;

 private:
  // The four values from M2 and m.
  void Moments(double second_moment, double of_mean, absl::Span<double> values) const;

  ProbeWorkspace& workspace_;
  const int batches_;
  const double batch_size_;
  const double examples_;
  const WeightParts parts_;
  const std::vector<std::string> series_;
};

}  // namespace normlab::engine
