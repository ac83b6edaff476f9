#include <algorithm>

#include "engine/spec/defaults.h"
#include "engine/spec/resolve_parts.h"

namespace normlab::engine {
namespace {

constexpr double kDefaultGain = 1;
constexpr double kDefaultStd = 0.01;
constexpr int32_t kDefaultEvaluationBatchSize = 256;
constexpr int64_t kDefaultCheckpointSeconds = 300;

// Without a normalizer to restore the scale, pytorch_default's weights (a third of He's variance)
// let the signal fade from layer to layer; Fixup and SkipInit are defined with He's.
void ResolveInitializer(const v1::Normalizer& normalization, v1::Initializer& initializer) {
  if (initializer.kind_case() == v1::Initializer::KIND_NOT_SET) {
    if (normalization.has_fixup() || normalization.has_skip_init()) {
      initializer.mutable_he_normal();
    } else {
      initializer.mutable_pytorch_default();
    }
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

bool HasWeightNorm(const v1::JobSpec& spec) {
  return spec.normalization().has_weight() ||
         std::any_of(spec.normalization_overrides().begin(), spec.normalization_overrides().end(),
                     [](const v1::NormalizationOverride& override) {
                       return override.normalization().has_weight();
                     });
}

// The gains of weight norm multiply from layer to layer with nothing to hold them: deep networks
// overflow within a few steps at SGD's usual rate.
// A summed loss has gradients as many times larger as it sums numbers; its rate is that of Santurkar
// et al. 2018, who train deep linear networks with it.
void ResolveLearningRate(v1::JobSpec& spec) {
  constexpr double kForWeightNorm = 0.01;
  constexpr double kForSummedLoss = 1e-6;
  v1::Optimizer& optimizer = *spec.mutable_optimizer();
  const bool is_sgd = optimizer.has_sgd() || optimizer.kind_case() == v1::Optimizer::KIND_NOT_SET;
  if (!is_sgd || optimizer.sgd().has_learning_rate()) {
    return;
  }
  const bool deep_linear_regression = spec.loss() == v1::Loss::KIND_UNSPECIFIED &&
                                      spec.model().has_deep_linear() &&
                                      spec.data().has_linear_regression();
  if (spec.loss() == v1::Loss::SUM_SQUARED_ERROR || deep_linear_regression) {
    optimizer.mutable_sgd()->set_learning_rate(kForSummedLoss);
  } else if (HasWeightNorm(spec)) {
    optimizer.mutable_sgd()->set_learning_rate(kForWeightNorm);
  }
}

}  // namespace

void ResolveCheckpoint(v1::CheckpointPolicy& checkpoint) {
  if (!checkpoint.has_every_time()) {
    checkpoint.mutable_every_time()->set_seconds(kDefaultCheckpointSeconds);
  }
}

void ResolveTraining(v1::JobSpec& spec) {
  ResolveInitializer(spec.normalization(), *spec.mutable_initializer());
  ResolveLearningRate(spec);
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
