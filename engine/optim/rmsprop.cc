#include "engine/optim/rmsprop.h"

#include <algorithm>
#include <cmath>

#include "common/status_macros.h"

namespace normlab::engine {
namespace {

struct Factors {
  float learning_rate;
  float alpha;
  float one_minus_alpha;
  float epsilon;
  float momentum;
  float weight_decay;
};

// State arrays of one piece; those that are not used are null.
struct State {
  float* square;
  float* mean;
  float* velocity;
};

// The four variants are one formula with parts left out when the loop is compiled.
template <bool kCentered, bool kMomentum>
NORMLAB_INLINE uint32_t Update(const Factors& factors,
                               GradientView view,
                               int64_t count,
                               const float* __restrict gradients,
                               const State& state,
                               float* __restrict parameters) {
  float* __restrict square = state.square;
  float* __restrict mean = state.mean;
  float* __restrict velocity = state.velocity;
  uint32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    const float w = parameters[i];
    const float d = view(gradients[i]) + factors.weight_decay * w;
    const float s = factors.alpha * square[i] + factors.one_minus_alpha * d * d;
    square[i] = s;
    float variance = s;
    if constexpr (kCentered) {
      const float a = factors.alpha * mean[i] + factors.one_minus_alpha * d;
      mean[i] = a;
      const float difference = s - a * a;
      variance = difference < 0.0F ? 0.0F : difference;  // keeps NaN
    }
    const float root = std::sqrt(variance) + factors.epsilon;
    if constexpr (kMomentum) {
      const float b = factors.momentum * velocity[i] + d / root;
      velocity[i] = b;
      parameters[i] = w - factors.learning_rate * b;
    } else {
      parameters[i] = w - factors.learning_rate * d / root;
    }
    largest = std::max(largest, Magnitude(parameters[i]));
  }
  return largest;
}

NORMLAB_VECTORIZE uint32_t UpdatePlain(Factors factors,
                                       GradientView view,
                                       int64_t count,
                                       const float* __restrict gradients,
                                       State state,
                                       float* __restrict parameters) {
  return Update<false, false>(factors, view, count, gradients, state, parameters);
}

NORMLAB_VECTORIZE uint32_t UpdateWithMomentum(Factors factors,
                                              GradientView view,
                                              int64_t count,
                                              const float* __restrict gradients,
                                              State state,
                                              float* __restrict parameters) {
  return Update<false, true>(factors, view, count, gradients, state, parameters);
}

NORMLAB_VECTORIZE uint32_t UpdateCentered(Factors factors,
                                          GradientView view,
                                          int64_t count,
                                          const float* __restrict gradients,
                                          State state,
                                          float* __restrict parameters) {
  return Update<true, false>(factors, view, count, gradients, state, parameters);
}

NORMLAB_VECTORIZE uint32_t UpdateCenteredWithMomentum(Factors factors,
                                                      GradientView view,
                                                      int64_t count,
                                                      const float* __restrict gradients,
                                                      State state,
                                                      float* __restrict parameters) {
  return Update<true, true>(factors, view, count, gradients, state, parameters);
}

float* At(Arena& arena, int64_t first) {
  return arena.size() == 0 ? nullptr : arena.data() + first;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RmsProp>> RmsProp::Create(RmsPropOptions options,
                                                         const UpdateScope& scope) {
  NORMLAB_ASSIGN_OR_RETURN(Arena square, Arena::Create(scope.floats));
  NORMLAB_ASSIGN_OR_RETURN(Arena mean, Arena::Create(options.centered ? scope.floats : 0));
  NORMLAB_ASSIGN_OR_RETURN(Arena velocity, Arena::Create(options.momentum != 0 ? scope.floats : 0));
  return std::unique_ptr<RmsProp>(
      new RmsProp(options, scope, std::move(square), std::move(mean), std::move(velocity)));
}

void RmsProp::BeginStep(double learning_rate) {
  learning_rate_ = static_cast<float>(learning_rate);
}

uint32_t RmsProp::UpdatePiece(int64_t first,
                              int64_t count,
                              bool decays,
                              GradientView view,
                              const float* gradients,
                              float* parameters) {
  const Factors factors = {
      .learning_rate = learning_rate_,
      .alpha = static_cast<float>(options_.alpha),
      .one_minus_alpha = static_cast<float>(1 - options_.alpha),
      .epsilon = static_cast<float>(options_.epsilon),
      .momentum = static_cast<float>(options_.momentum),
      .weight_decay = decays ? static_cast<float>(options_.weight_decay) : 0.0F,
  };
  const State state = {At(square_, first), At(mean_, first), At(velocity_, first)};
  if (options_.centered) {
    return options_.momentum != 0
               ? UpdateCenteredWithMomentum(factors, view, count, gradients, state, parameters)
               : UpdateCentered(factors, view, count, gradients, state, parameters);
  }
  return options_.momentum != 0
             ? UpdateWithMomentum(factors, view, count, gradients, state, parameters)
             : UpdatePlain(factors, view, count, gradients, state, parameters);
}

std::vector<OptimizerSlot> RmsProp::slots() {
  std::vector<OptimizerSlot> slots = {{"square_avg", square_.span()}};
  if (options_.centered) {
    slots.push_back({"grad_avg", mean_.span()});
  }
  if (options_.momentum != 0) {
    slots.push_back({"momentum_buffer", velocity_.span()});
  }
  return slots;
}

}  // namespace normlab::engine
