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
      series_({"gradient_noise/second_moment", "gradient_noise/variance",
               "gradient_noise/mean_squared_norm", "gradient_noise/noise_scale"}) {}

void GradientNoiseProbe::BeforeUpdate(const ProbeStep& step, absl::Span<double> values) {
  const absl::Span<float> mean = workspace_.scratch();
  std::fill(mean.begin(), mean.end(), 0.0F);
  workspace_.Reset();
  const double count = batches_;
  double second_moment = 0;
  for (int k = 0; k < batches_; ++k) {
    const uint64_t number = kFirstBatch +
                            static_cast<uint64_t>(step.step) * static_cast<uint64_t>(batches_) +
                            static_cast<uint64_t>(k);
    if (!std::isfinite(workspace_.LossAndGradientOnFreshBatch(number))) {
      std::fill(values.begin(), values.end(), std::numeric_limits<double>::infinity());
      return;
    }
    second_moment += SquaredNorm(workspace_.gradients()) / count;
    AddScaled(mean, 1 / count, workspace_.gradients(), mean);
  }
  const double of_mean = SquaredNorm(mean);
  const double variance = count / (count - 1) * (second_moment - of_mean);
  const double squared_norm = (count * of_mean - second_moment) / (count - 1);
  values[0] = second_moment;
  values[1] = variance;
  values[2] = squared_norm;
  if (squared_norm > 0 && batch_size_ < examples_) {
    values[3] = batch_size_ * variance / squared_norm * (examples_ - 1) / (examples_ - batch_size_);
  }
}

}  // namespace normlab::engine
