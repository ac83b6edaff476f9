#include "engine/probes/landscape.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "engine/probes/vector_math.h"

namespace normlab::engine {

LandscapeProbe::LandscapeProbe(ProbeWorkspace& workspace,
                               std::vector<double> factors,
                               bool relative)
    : workspace_(workspace),
      factors_(std::move(factors)),
      relative_(relative),
      series_({"landscape/loss_min", "landscape/loss_max", "landscape/predictiveness_min",
               "landscape/predictiveness_max", "landscape/smoothness"}) {}

void LandscapeProbe::BeforeUpdate(const ProbeStep& step, absl::Span<double> values) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  // What overflows is infinite: dropping it would make a wild landscape look calm.
  const auto or_infinity = [](double value) { return std::isfinite(value) ? value : kInfinity; };
  double loss_min = kInfinity;
  double loss_max = -kInfinity;
  double difference_min = kInfinity;
  double difference_max = 0;
  double smoothness = 0;
  const double norm = std::sqrt(SquaredNorm(step.gradients));
  workspace_.Reset();
  for (const double factor : factors_) {
    const double eta = relative_ ? factor * step.learning_rate : factor;
    if (eta == 0) {
      continue;  // a schedule that has come to 0: nothing is measured at w itself
    }
    AddScaled(step.parameters, -eta, step.gradients, workspace_.parameters());
    const double loss = or_infinity(workspace_.LossAndGradientOnBatch());
    const double difference =
        std::isfinite(loss)
            ? or_infinity(std::sqrt(SquaredDistance(step.gradients, workspace_.gradients())))
            : kInfinity;
    loss_min = std::min(loss_min, loss);
    loss_max = std::max(loss_max, loss);
    difference_min = std::min(difference_min, difference);
    difference_max = std::max(difference_max, difference);
    // Without a gradient there is no direction, and no change along it.
    if (norm != 0) {
      smoothness = std::max(smoothness, or_infinity(difference / (eta * norm)));
    }
  }
  if (loss_max == -kInfinity) {
    return;
  }
  values[0] = loss_min;
  values[1] = loss_max;
  values[2] = difference_min;
  values[3] = difference_max;
  values[4] = smoothness;
}

}  // namespace normlab::engine
