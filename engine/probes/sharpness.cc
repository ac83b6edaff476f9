#include "engine/probes/sharpness.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/random.h"
#include "engine/probes/vector_math.h"

namespace normlab::engine {
namespace {

constexpr double kRelativeDistance = 1e-3;
// Iterations end when the eigenvalue moves by less than this part of itself.
constexpr double kConverged = 1e-5;
// Iterations after which the sign of the eigenvalue of greatest magnitude is believed.
constexpr int kSettled = 3;
constexpr double kShiftMargin = 1.1;
// Beyond it ||Hv|| tells that v is no eigenvector.
constexpr double kMixed = 1.01;

// Scales to norm 1; false: it is 0 or not finite.
bool Normalize(absl::Span<float> v) {
  const double norm = std::sqrt(SquaredNorm(v));
  if (!std::isfinite(norm) || norm == 0) {
    return false;
  }
  for (float& x : v) {
    x = static_cast<float>(x / norm);
  }
  return true;
}

}  // namespace

SharpnessProbe::SharpnessProbe(ProbeWorkspace& workspace,
                               const Graph& graph,
                               const SharpnessOptions& options)
    : workspace_(workspace),
      graph_(graph),
      options_(options),
      series_({"sharpness/top_eigenvalue", "sharpness/iterations"}),
      vector_(graph.parameter_floats()),
      product_(graph.parameter_floats()) {
  if (options_.stability_numerator.has_value()) {
    series_.emplace_back("sharpness/stability_threshold");
  }
  Restart();
}

void SharpnessProbe::Restart() {
  const common::RandomStream random(options_.seed, "probes/sharpness");
  const absl::Span<float> v = vector_.span();
  std::fill(v.begin(), v.end(), 0.0F);
  // Gaps between tensors stay 0.
  for (const ParameterSpec& spec : graph_.parameters()) {
    for (int64_t i = spec.offset; i < spec.offset + spec.count; ++i) {
      v[static_cast<size_t>(i)] = static_cast<float>(random.Normal(0, static_cast<uint64_t>(i)));
    }
  }
  Normalize(v);
}

std::vector<MutableTensor> SharpnessProbe::state() {
  return {{.name = "probes.sharpness.vector",
           .dims = {graph_.parameter_floats()},
           .values = vector_.span()}};
}

bool SharpnessProbe::MeanGradient(const ProbeStep& step,
                                  double distance,
                                  absl::Span<float> gradient) {
  std::fill(gradient.begin(), gradient.end(), 0.0F);
  AddScaled(step.parameters, distance, vector_.span(), workspace_.parameters());
  for (int batch = 0; batch < options_.batches; ++batch) {
    if (!std::isfinite(workspace_.LossAndGradientOnFixedBatch(batch))) {
      return false;
    }
    AddScaled(gradient, 1.0 / options_.batches, workspace_.gradients(), gradient);
  }
  return true;
}

std::optional<SharpnessProbe::Product> SharpnessProbe::Iterate(const ProbeStep& step,
                                                               double distance,
                                                               double shift) {
  const absl::Span<float> v = vector_.span();
  const absl::Span<float> product = product_.span();
  const absl::Span<float> minus = workspace_.scratch();
  if (!MeanGradient(step, distance, product) || !MeanGradient(step, -distance, minus)) {
    return std::nullopt;
  }
  AddScaled(product, -1, minus, product);
  const Product result = {.rayleigh = Dot(v, product) / (2 * distance),
                          .norm = std::sqrt(SquaredNorm(product)) / (2 * distance)};
  for (size_t i = 0; i < product.size(); ++i) {
    product[i] = static_cast<float>(product[i] / (2 * distance) + shift * v[i]);
  }
  if (Normalize(product)) {
    std::copy(product.begin(), product.end(), v.begin());
  } else {
    Restart();  // nothing of the vector lies outside the kernel
  }
  return result;
}

void SharpnessProbe::BeforeUpdate(const ProbeStep& step, absl::Span<double> values) {
  workspace_.Reset();
  const double weights = std::sqrt(SquaredNorm(step.parameters));
  const double distance = kRelativeDistance * (weights > 0 ? weights : 1);
  double shift = 0;
  double last = std::numeric_limits<double>::quiet_NaN();
  int iterations = 0;
  bool finite = true;
  for (; iterations < options_.iterations; ++iterations) {
    const std::optional<Product> product = Iterate(step, distance, shift);
    if (!product.has_value()) {
      finite = false;
      break;
    }
    const double eigenvalue = product->rayleigh;
    // Never true while `last` is NaN.
    const bool converged = std::abs(eigenvalue - last) <= kConverged * std::abs(eigenvalue);
    last = eigenvalue;
    // Converged to the bottom of the spectrum, not to its top.
    const bool at_bottom = eigenvalue + shift <= 0;
    // Top and bottom of (nearly) the same magnitude, as at the origin of a deep linear network: v
    // goes to and fro between two mixtures of their vectors, with the same quotient for ever.
    const bool mixed = product->norm > kMixed * std::abs(eigenvalue);
    if (shift == 0 && mixed && converged) {
      shift = product->norm;
      last = std::numeric_limits<double>::quiet_NaN();
    } else if (at_bottom && (converged || iterations + 1 >= kSettled)) {
      // Moved up by it, it counts least.
      shift = std::max(shift, -kShiftMargin * eigenvalue);
      Restart();
      last = std::numeric_limits<double>::quiet_NaN();
    } else if (converged && !at_bottom) {
      ++iterations;
      break;
    }
  }
  if (finite) {
    // What is still at the bottom of the spectrum is not the greatest, which stays unknown.
    values[0] = last + shift > 0 ? last : std::numeric_limits<double>::quiet_NaN();
  } else {
    Restart();
  }
  values[1] = iterations;
  if (options_.stability_numerator.has_value() && step.learning_rate > 0) {
    values[2] = *options_.stability_numerator / step.learning_rate;
  }
}

}  // namespace normlab::engine
