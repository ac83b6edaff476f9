#include "engine/spec/resolve_parts.h"

namespace normlab::engine {
namespace {

constexpr int32_t kDefaultEvery = 50;
constexpr int32_t kDefaultNoiseBatches = 8;
constexpr int32_t kDefaultIterations = 20;
constexpr int32_t kDefaultSurfaceDimensions = 2;
constexpr int32_t kDefaultSurfacePoints = 11;
constexpr double kDefaultSurfaceRange = 1;
constexpr int32_t kDefaultSurfaceExamples = 1024;
// The range of Santurkar et al. 2018.
constexpr double kDefaultMultiples[] = {0.5, 1, 2, 4};

void ResolveSurface(v1::LossSurface& surface) {
  if (!surface.has_dimensions()) {
    surface.set_dimensions(kDefaultSurfaceDimensions);
  }
  if (!surface.has_points()) {
    surface.set_points(kDefaultSurfacePoints);
  }
  if (!surface.has_range()) {
    surface.set_range(kDefaultSurfaceRange);
  }
  if (!surface.has_examples()) {
    surface.set_examples(kDefaultSurfaceExamples);
  }
}

}  // namespace

void ResolveProbe(v1::Probe& probe, int64_t batch_size) {
  if (!probe.has_every() && !probe.has_loss_surface()) {
    probe.set_every(kDefaultEvery);
  }
  if (probe.has_landscape() && probe.landscape().step_sizes().empty() &&
      probe.landscape().learning_rate_multiples().empty()) {
    for (const double multiple : kDefaultMultiples) {
      probe.mutable_landscape()->add_learning_rate_multiples(multiple);
    }
  }
  if (probe.has_gradient_noise() && !probe.gradient_noise().has_batches()) {
    probe.mutable_gradient_noise()->set_batches(kDefaultNoiseBatches);
  }
  if (probe.has_sharpness()) {
    v1::Sharpness& sharpness = *probe.mutable_sharpness();
    if (!sharpness.has_examples()) {
      sharpness.set_examples(static_cast<int32_t>(batch_size));
    }
    if (!sharpness.has_iterations()) {
      sharpness.set_iterations(kDefaultIterations);
    }
  }
  if (probe.has_loss_surface()) {
    ResolveSurface(*probe.mutable_loss_surface());
  }
}

}  // namespace normlab::engine
