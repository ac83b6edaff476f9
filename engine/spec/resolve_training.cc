#include "engine/spec/resolve_parts.h"

namespace normlab::engine {
namespace {

constexpr double kDefaultGain = 1;
constexpr double kDefaultStd = 0.01;
constexpr int32_t kDefaultBatchSize = 64;
constexpr int32_t kDefaultEvaluationBatchSize = 256;

void ResolveInitializer(v1::Initializer& initializer) {
  if (initializer.kind_case() == v1::Initializer::KIND_NOT_SET) {
    initializer.mutable_pytorch_default();
  }
  if (initializer.has_fan_in_normal() && !initializer.fan_in_normal().has_gain()) {
    initializer.mutable_fan_in_normal()->set_gain(kDefaultGain);
  }
  if (initializer.has_normal() && !initializer.normal().has_std()) {
    initializer.mutable_normal()->set_std(kDefaultStd);
  }
  if (!initializer.has_scale()) {
    initializer.set_scale(1.0);
  }
}

void ResolveEvaluation(v1::Evaluation& evaluation) {
  if (!evaluation.has_every_epochs()) {
    evaluation.set_every_epochs(evaluation.every_steps() > 0 ? 0 : 1);
  }
  if (!evaluation.has_batch_size()) {
    evaluation.set_batch_size(kDefaultEvaluationBatchSize);
  }
}

}  // namespace

void ResolveTraining(v1::JobSpec& spec) {
  ResolveInitializer(*spec.mutable_initializer());
  ResolveOptimizer(*spec.mutable_optimizer());
  ResolveSchedule(*spec.mutable_schedule());
  if (!spec.has_batch_size()) {
    spec.set_batch_size(kDefaultBatchSize);
  }
  if (spec.budget_case() == v1::JobSpec::BUDGET_NOT_SET) {
    spec.set_epochs(1);
  }
  ResolveEvaluation(*spec.mutable_evaluation());
}

}  // namespace normlab::engine
