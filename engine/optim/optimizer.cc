#include "engine/optim/optimizer.h"

#include <algorithm>
#include <utility>

#include "engine/optim/adam.h"
#include "engine/optim/rmsprop.h"
#include "engine/optim/sgd.h"

namespace normlab::engine {
namespace {

// Tensors start at multiples of this; rounding their sizes up to it merges those that are
// neighbours.
constexpr int64_t kAlignmentFloats = kTensorAlignment / static_cast<int64_t>(sizeof(float));

// Everything but weights: gamma, beta, biases, gains, thresholds, multipliers.
std::vector<FloatRange> RangesWithoutDecay(const Graph& graph) {
  std::vector<FloatRange> ranges;
  for (const ParameterSpec& parameter : graph.parameters()) {
    if (parameter.role == ParameterRole::kWeight) {
      continue;
    }
    const int64_t padded =
        (parameter.count + kAlignmentFloats - 1) / kAlignmentFloats * kAlignmentFloats;
    const int64_t end = std::min(parameter.offset + padded, graph.parameter_floats());
    if (!ranges.empty() && ranges.back().offset + ranges.back().count == parameter.offset) {
      ranges.back().count = end - ranges.back().offset;
    } else {
      ranges.push_back({parameter.offset, end - parameter.offset});
    }
  }
  return ranges;
}

template <typename Kind>
absl::StatusOr<std::unique_ptr<Optimizer>> AsOptimizer(absl::StatusOr<std::unique_ptr<Kind>> made) {
  if (!made.ok()) {
    return made.status();
  }
  return std::unique_ptr<Optimizer>(*std::move(made));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Optimizer>> MakeOptimizer(const v1::JobSpec& resolved,
                                                         const Graph& graph) {
  const v1::Optimizer& optimizer = resolved.optimizer();
  UpdateScope scope;
  scope.floats = graph.parameter_floats();
  scope.clip_norm = optimizer.clipping().global_norm();
  scope.clip_value = optimizer.clipping().value();
  if (optimizer.decay_weights_only()) {
    scope.without_decay = RangesWithoutDecay(graph);
  }
  switch (optimizer.kind_case()) {
    case v1::Optimizer::kAdam: {
      const v1::Adam& adam = optimizer.adam();
      return AsOptimizer(Adam::Create({.beta1 = adam.beta1(),
                                       .beta2 = adam.beta2(),
                                       .epsilon = adam.epsilon(),
                                       .weight_decay = adam.weight_decay()},
                                      scope));
    }
    case v1::Optimizer::kAdamw: {
      const v1::AdamW& adamw = optimizer.adamw();
      return AsOptimizer(Adam::Create({.beta1 = adamw.beta1(),
                                       .beta2 = adamw.beta2(),
                                       .epsilon = adamw.epsilon(),
                                       .weight_decay = adamw.weight_decay(),
                                       .decoupled_decay = true},
                                      scope));
    }
    case v1::Optimizer::kRmsprop: {
      const v1::RmsProp& rmsprop = optimizer.rmsprop();
      return AsOptimizer(RmsProp::Create({.alpha = rmsprop.alpha(),
                                          .epsilon = rmsprop.epsilon(),
                                          .momentum = rmsprop.momentum(),
                                          .weight_decay = rmsprop.weight_decay(),
                                          .centered = rmsprop.centered()},
                                         scope));
    }
    default: {  // sgd; a resolved spec has no other
      const v1::Sgd& sgd = optimizer.sgd();
      return AsOptimizer(Sgd::Create({.momentum = sgd.momentum(),
                                      .weight_decay = sgd.weight_decay(),
                                      .nesterov = sgd.nesterov()},
                                     scope));
    }
  }
}

}  // namespace normlab::engine
