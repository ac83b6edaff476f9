#include "engine/probes/gradient_noise.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/probes/vector_math.h"

namespace normlab::engine {
namespace {

// The batches before it are those of fixed sets.
constexpr uint64_t kFirstBatch = uint64_t{1} << 20;

}  // namespace

GradientNoiseProbe::GradientNoiseProbe(ProbeWorkspace& workspace,
                                       int batches,
                                       int64_t batch_size,
                                       int64_t examples)
    : workspace_(workspace),
      batches_(batches),
      batch_size_(static_cast<double>(batch_size)),
      examples_(static_cast<double>(examples)),
      parts_(workspace.graph()),
      series_({"gradient_noise/second_moment", "gradient_noise/variance",
               "gradient_noise/mean_squared_norm", "gradient_noise/noise_scale",
               "gradient_noise/second_moment_weights", "gradient_noise/variance_weights",
               "gradient_noise/mean_squared_norm_weights", "gradient_noise/noise_scale_weights"}) {}

void GradientNoiseProbe::Moments(double second_moment,
                                 double of_mean,
                                 absl::Span<double> values) const {
  const double count = batches_;
  const double variance = count / (count - 1) * (second_moment - of_mean);
  const double squared_norm = (count * of_mean - second_moment) / (count - 1);
  values[0] = second_moment;
  values[1] = variance;
  values[2] = squared_norm;
  if (squared_norm > 0 && batch_size_ < examples_) {
    values[3] = batch_size_ * variance / squared_norm * (examples_ - 1) / (examples_ - batch_size_);
  }
}

void GradientNoiseProbe::BeforeUpdate(const ProbeStep& step, absl::Span<double> values) {
  const absl::Span<float> mean = workspace_.scratch();
  std::fill(mean.begin(), mean.end(), 0.0F);
  workspace_.Reset();
  const double count = batches_;
  WeightSums second_moment;
  for (int k = 0; k < batches_; ++k) {
    const uint64_t number = kFirstBatch +
                            static_cast<uint64_t>(step.step) * static_cast<uint64_t>(batches_) +
                            static_cast<uint64_t>(k);
    if (!std::isfinite(workspace_.LossAndGradientOnFreshBatch(number))) {
      std::fill(values.begin(), values.end(), std::numeric_limits<double>::infinity());
      return;
    }
    const WeightSums squared = parts_.SquaredNorm(workspace_.gradients());
    second_moment.all += squared.all / count;
    second_moment.weights += squared.weights / count;
    AddScaled(mean, 1 / count, workspace_.gradients(), mean);
  }
  const WeightSums of_mean = parts_.SquaredNorm(mean);
  const size_t half = values.size() / 2;
  Moments(second_moment.all, of_mean.all, values.subspan(0, half));
  Moments(second_moment.weights, of_mean.weights, values.subspan(half));
}

}  // namespace normlab::engine
