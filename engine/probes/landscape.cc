#include "engine/probes/landscape.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "engine/probes/vector_math.h"

namespace normlab::engine {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// What overflows is infinite: dropping it would make a wild landscape look calm.
double OrInfinity(double value) {
  return std::isfinite(value) ? value : kInfinity;
}

// How the gradient changes along it, by one norm.
struct Change {
  void Add(double squared_distance, double eta, double gradient_norm) {
    const double difference = OrInfinity(std::sqrt(squared_distance));
    least = std::min(least, difference);
    greatest = std::max(greatest, difference);
    // Without a gradient there is no direction, and no change along it.
    if (gradient_norm != 0) {
      smoothness = std::max(smoothness, OrInfinity(difference / (eta * gradient_norm)));
    }
  }

  double least = kInfinity;
  double greatest = 0;
  double smoothness = 0;
};

}  // namespace

LandscapeProbe::LandscapeProbe(ProbeWorkspace& workspace,
                               std::vector<double> factors,
                               bool relative)
    : workspace_(workspace),
      factors_(std::move(factors)),
      relative_(relative),
      parts_(workspace.graph()),
      series_({"landscape/loss_min", "landscape/loss_max", "landscape/predictiveness_min",
               "landscape/predictiveness_max", "landscape/smoothness",
               "landscape/predictiveness_min_weights", "landscape/predictiveness_max_weights",
               "landscape/smoothness_weights"}) {}

void LandscapeProbe::BeforeUpdate(const ProbeStep& step, absl::Span<double> values) {
  double loss_min = kInfinity;
  double loss_max = -kInfinity;
  Change all;
  Change weights;
  const WeightSums norms = parts_.SquaredNorm(step.gradients);
  workspace_.Reset();
  for (const double factor : factors_) {
    const double eta = relative_ ? factor * step.learning_rate : factor;
    if (eta == 0) {
      continue;  // a schedule that has come to 0: nothing is measured at w itself
    }
    AddScaled(step.parameters, -eta, step.gradients, workspace_.parameters());
    const double loss = OrInfinity(workspace_.LossAndGradientOnBatch());
    const WeightSums squared = std::isfinite(loss)
                                   ? parts_.SquaredDistance(step.gradients, workspace_.gradients())
                                   : WeightSums{.all = kInfinity, .weights = kInfinity};
    loss_min = std::min(loss_min, loss);
    loss_max = std::max(loss_max, loss);
    all.Add(squared.all, eta, std::sqrt(norms.all));
    weights.Add(squared.weights, eta, std::sqrt(norms.weights));
  }
  if (loss_max == -kInfinity) {
    return;
  }
  values[0] = loss_min;
  values[1] = loss_max;
  values[2] = all.least;
  values[3] = all.greatest;
  values[4] = all.smoothness;
  values[5] = weights.least;
  values[6] = weights.greatest;
  values[7] = weights.smoothness;
}

}  // namespace normlab::engine
