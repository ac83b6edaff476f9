#include "engine/optim/adam.h"

#include <algorithm>
#include <cmath>

#include "common/status_macros.h"

namespace normlab::engine {
namespace {

struct Factors {
  float beta1;
  float one_minus_beta1;
  float beta2;
  float one_minus_beta2;
  float epsilon;
  float step_size;          // learning_rate/(1 - beta1^t)
  float square_correction;  // sqrt(1 - beta2^t)
  float weight_decay;       // Adam's, else 0
  float kept;               // AdamW's 1 - learning_rate*weight_decay, else 1
};

NORMLAB_VECTORIZE uint32_t Update(Factors factors,
                                  GradientView view,
                                  int64_t count,
                                  const float* __restrict gradients,
                                  float* __restrict mean,
                                  float* __restrict square,
                                  float* __restrict parameters) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    const float w = parameters[i];
    const float d = view(gradients[i]) + factors.weight_decay * w;
    const float m = factors.beta1 * mean[i] + factors.one_minus_beta1 * d;
    const float v = factors.beta2 * square[i] + factors.one_minus_beta2 * d * d;
    mean[i] = m;
    square[i] = v;
    const float denominator = std::sqrt(v) / factors.square_correction + factors.epsilon;
    parameters[i] = w * factors.kept - factors.step_size * m / denominator;
    largest = std::max(largest, Magnitude(parameters[i]));
  }
  return largest;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Adam>> Adam::Create(AdamOptions options, const UpdateScope& scope) {
  NORMLAB_ASSIGN_OR_RETURN(Arena mean, Arena::Create(scope.floats));
  NORMLAB_ASSIGN_OR_RETURN(Arena square, Arena::Create(scope.floats));
  return std::unique_ptr<Adam>(new Adam(options, scope, std::move(mean), std::move(square)));
}

void Adam::BeginStep(double learning_rate) {
  ++steps_;
  const auto t = static_cast<double>(steps_);
  step_size_ = static_cast<float>(learning_rate / (1 - std::pow(options_.beta1, t)));
  square_correction_ = static_cast<float>(std::sqrt(1 - std::pow(options_.beta2, t)));
  kept_ = static_cast<float>(1 - learning_rate * options_.weight_decay);
}

uint32_t Adam::UpdatePiece(int64_t first,
                           int64_t count,
                           bool decays,
                           GradientView view,
                           const float* gradients,
                           float* parameters) {
  const bool added = decays && !options_.decoupled_decay;
  const bool decoupled = decays && options_.decoupled_decay;
  const Factors factors = {
      .beta1 = static_cast<float>(options_.beta1),
      .one_minus_beta1 = static_cast<float>(1 - options_.beta1),
      .beta2 = static_cast<float>(options_.beta2),
      .one_minus_beta2 = static_cast<float>(1 - options_.beta2),
      .epsilon = static_cast<float>(options_.epsilon),
      .step_size = step_size_,
      .square_correction = square_correction_,
      .weight_decay = added ? static_cast<float>(options_.weight_decay) : 0.0F,
      .kept = decoupled ? kept_ : 1.0F,
  };
  return Update(factors, view, count, gradients, mean_.data() + first, square_.data() + first,
                parameters);
}

std::vector<OptimizerSlot> Adam::slots() {
  return {{"exp_avg", mean_.span()}, {"exp_avg_sq", square_.span()}};
}

std::vector<OptimizerCounter> Adam::counters() {
  return {{"step", &steps_}};
}

}  // namespace normlab::engine
