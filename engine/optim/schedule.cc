#include "engine/optim/schedule.h"

#include <cmath>
#include <numbers>

namespace normlab::engine {
namespace {

double BaseRate(const v1::Optimizer& optimizer) {
  switch (optimizer.kind_case()) {
    case v1::Optimizer::kAdam:
      return optimizer.adam().learning_rate();
    case v1::Optimizer::kAdamw:
      return optimizer.adamw().learning_rate();
    case v1::Optimizer::kRmsprop:
      return optimizer.rmsprop().learning_rate();
    default:
      return optimizer.sgd().learning_rate();
  }
}

double StepFactor(const v1::StepSchedule& schedule, int64_t step, const RunLength& length) {
  int passed = 0;
  for (const int32_t milestone : schedule.milestone_steps()) {
    passed += step >= milestone ? 1 : 0;
  }
  for (const int32_t milestone : schedule.milestone_epochs()) {
    passed += step >= milestone * length.steps_per_epoch ? 1 : 0;
  }
  // Not pow: a product of the same factors whatever the library.
  double factor = 1;
  for (int i = 0; i < passed; ++i) {
    factor *= schedule.factor();
  }
  return factor;
}

// From `start` to `end` along half a cosine, at the part `share` of the way.
double Anneal(double start, double end, double share) {
  return end + (start - end) / 2 * (1 + std::cos(std::numbers::pi * share));
}

double OneCycleFactor(const v1::OneCycleSchedule& schedule, int64_t step, int64_t total_steps) {
  const double start = 1 / schedule.start_divisor();
  const double end = start / schedule.final_divisor();
  // The lengths of the two phases as OneCycleLR has them.
  const double peak = schedule.warmup_share() * static_cast<double>(total_steps) - 1;
  const auto last = static_cast<double>(total_steps - 1);
  const auto now = static_cast<double>(step);
  if (now <= peak) {
    return peak > 0 ? Anneal(start, 1, now / peak) : 1;
  }
  // The peak may lie before step 0: then the first rate is already below it.
  return Anneal(1, end, (now - peak) / (last - peak));
}

}  // namespace

double LearningRateAt(const v1::JobSpec& resolved, int64_t step, const RunLength& length) {
  const v1::Schedule& schedule = resolved.schedule();
  double factor = 1;
  switch (schedule.kind_case()) {
    case v1::Schedule::kStep:
      factor = StepFactor(schedule.step(), step, length);
      break;
    case v1::Schedule::kCosine:
      factor = Anneal(1, schedule.cosine().final_factor(),
                      static_cast<double>(step) / static_cast<double>(length.total_steps));
      break;
    case v1::Schedule::kOneCycle:
      factor = OneCycleFactor(schedule.one_cycle(), step, length.total_steps);
      break;
    default:
      break;  // constant
  }
  if (step < schedule.warmup_steps()) {
    factor *= static_cast<double>(step + 1) / static_cast<double>(schedule.warmup_steps());
  }
  return BaseRate(resolved.optimizer()) * factor;
}

}  // namespace normlab::engine
