#include "engine/optim/sgd.h"

#include <algorithm>

#include "common/status_macros.h"

namespace normlab::engine {
namespace {

struct Factors {
  float learning_rate;
  float momentum;
  float weight_decay;
};

NORMLAB_VECTORIZE uint32_t UpdatePlain(Factors factors,
                                       GradientView view,
                                       int64_t count,
                                       const float* __restrict gradients,
                                       float* __restrict parameters) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    const float w = parameters[i];
    parameters[i] = w - factors.learning_rate * (view(gradients[i]) + factors.weight_decay * w);
    largest = std::max(largest, Magnitude(parameters[i]));
  }
  return largest;
}

NORMLAB_VECTORIZE uint32_t UpdateWithMomentum(Factors factors,
                                              GradientView view,
                                              int64_t count,
                                              const float* __restrict gradients,
                                              float* __restrict velocity,
                                              float* __restrict parameters) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    const float w = parameters[i];
    const float v =
        factors.momentum * velocity[i] + (view(gradients[i]) + factors.weight_decay * w);
    velocity[i] = v;
    parameters[i] = w - factors.learning_rate * v;
    largest = std::max(largest, Magnitude(parameters[i]));
  }
  return largest;
}

NORMLAB_VECTORIZE uint32_t UpdateNesterov(Factors factors,
                                          GradientView view,
                                          int64_t count,
                                          const float* __restrict gradients,
                                          float* __restrict velocity,
                                          float* __restrict parameters) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    const float w = parameters[i];
    const float d = view(gradients[i]) + factors.weight_decay * w;
    const float v = factors.momentum * velocity[i] + d;
    velocity[i] = v;
    parameters[i] = w - factors.learning_rate * (d + factors.momentum * v);
    largest = std::max(largest, Magnitude(parameters[i]));
  }
  return largest;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Sgd>> Sgd::Create(SgdOptions options, const UpdateScope& scope) {
  NORMLAB_ASSIGN_OR_RETURN(Arena velocity, Arena::Create(options.momentum != 0 ? scope.floats : 0));
  return std::unique_ptr<Sgd>(new Sgd(options, scope, std::move(velocity)));
}

void Sgd::BeginStep(double learning_rate) {
  learning_rate_ = static_cast<float>(learning_rate);
}

uint32_t Sgd::UpdatePiece(int64_t first,
                          int64_t count,
                          bool decays,
                          GradientView view,
                          const float* gradients,
                          float* parameters) {
  const Factors factors = {learning_rate_, static_cast<float>(options_.momentum),
                           decays ? static_cast<float>(options_.weight_decay) : 0.0F};
  if (velocity_.size() == 0) {
    return UpdatePlain(factors, view, count, gradients, parameters);
  }
  float* velocity = velocity_.data() + first;
  return options_.nesterov
             ? UpdateNesterov(factors, view, count, gradients, velocity, parameters)
             : UpdateWithMomentum(factors, view, count, gradients, velocity, parameters);
}

std::vector<OptimizerSlot> Sgd::slots() {
  if (velocity_.size() == 0) {
    return {};
  }
  return {{"momentum_buffer", velocity_.span()}};
}

}  // namespace normlab::engine
