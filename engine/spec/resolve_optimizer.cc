#include "engine/spec/resolve_parts.h"

namespace normlab::engine {
namespace {

constexpr double kDefaultSgdRate = 0.1;
constexpr double kDefaultAdamRate = 1e-3;
constexpr double kDefaultRmsPropRate = 0.01;
constexpr double kDefaultBeta1 = 0.9;
constexpr double kDefaultBeta2 = 0.999;
constexpr double kDefaultAlpha = 0.99;
constexpr double kDefaultEpsilon = 1e-8;
constexpr double kDefaultAdamWDecay = 0.01;
constexpr double kDefaultStepFactor = 0.1;
constexpr double kDefaultWarmupShare = 0.3;
constexpr double kDefaultStartDivisor = 25;
constexpr double kDefaultFinalDivisor = 1e4;

// What Adam and AdamW have in common.
template <typename Message>
void ResolveAdam(Message& adam) {
  if (!adam.has_learning_rate()) {
    adam.set_learning_rate(kDefaultAdamRate);
  }
  if (!adam.has_beta1()) {
    adam.set_beta1(kDefaultBeta1);
  }
  if (!adam.has_beta2()) {
    adam.set_beta2(kDefaultBeta2);
  }
  if (!adam.has_epsilon()) {
    adam.set_epsilon(kDefaultEpsilon);
  }
}

void ResolveRmsProp(v1::RmsProp& rmsprop) {
  if (!rmsprop.has_learning_rate()) {
    rmsprop.set_learning_rate(kDefaultRmsPropRate);
  }
  if (!rmsprop.has_alpha()) {
    rmsprop.set_alpha(kDefaultAlpha);
  }
  if (!rmsprop.has_epsilon()) {
    rmsprop.set_epsilon(kDefaultEpsilon);
  }
}

void ResolveOneCycle(v1::OneCycleSchedule& schedule) {
  if (!schedule.has_warmup_share()) {
    schedule.set_warmup_share(kDefaultWarmupShare);
  }
  if (!schedule.has_start_divisor()) {
    schedule.set_start_divisor(kDefaultStartDivisor);
  }
  if (!schedule.has_final_divisor()) {
    schedule.set_final_divisor(kDefaultFinalDivisor);
  }
}

}  // namespace

void ResolveOptimizer(v1::Optimizer& optimizer) {
  switch (optimizer.kind_case()) {
    case v1::Optimizer::kAdam:
      ResolveAdam(*optimizer.mutable_adam());
      return;
    case v1::Optimizer::kAdamw:
      ResolveAdam(*optimizer.mutable_adamw());
      if (!optimizer.adamw().has_weight_decay()) {
        optimizer.mutable_adamw()->set_weight_decay(kDefaultAdamWDecay);
      }
      return;
    case v1::Optimizer::kRmsprop:
      ResolveRmsProp(*optimizer.mutable_rmsprop());
      return;
    case v1::Optimizer::kSgd:
    case v1::Optimizer::KIND_NOT_SET:
      break;
  }
  v1::Sgd& sgd = *optimizer.mutable_sgd();
  if (!sgd.has_learning_rate()) {
    sgd.set_learning_rate(kDefaultSgdRate);
  }
}

void ResolveSchedule(v1::Schedule& schedule) {
  switch (schedule.kind_case()) {
    case v1::Schedule::kStep:
      if (!schedule.step().has_factor()) {
        schedule.mutable_step()->set_factor(kDefaultStepFactor);
      }
      break;
    case v1::Schedule::kOneCycle:
      ResolveOneCycle(*schedule.mutable_one_cycle());
      break;
    case v1::Schedule::KIND_NOT_SET:
      schedule.mutable_constant();
      break;
    case v1::Schedule::kConstant:
    case v1::Schedule::kCosine:
      break;
  }
}

}  // namespace normlab::engine
