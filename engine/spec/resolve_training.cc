#include "engine/spec/resolve_parts.h"

namespace normlab::engine {
namespace {

constexpr double kDefaultLearningRate = 0.1;
constexpr int32_t kDefaultBatchSize = 64;
constexpr int32_t kDefaultEvaluationBatchSize = 256;

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
  v1::Initializer& initializer = *spec.mutable_initializer();
  if (initializer.kind_case() == v1::Initializer::KIND_NOT_SET) {
    initializer.mutable_pytorch_default();
  }
  if (!initializer.has_scale()) {
    initializer.set_scale(1.0);
  }
  v1::Sgd& sgd = *spec.mutable_optimizer()->mutable_sgd();
  if (!sgd.has_learning_rate()) {
    sgd.set_learning_rate(kDefaultLearningRate);
  }
  if (!spec.has_batch_size()) {
    spec.set_batch_size(kDefaultBatchSize);
  }
  if (spec.budget_case() == v1::JobSpec::BUDGET_NOT_SET) {
    spec.set_epochs(1);
  }
  ResolveEvaluation(*spec.mutable_evaluation());
}

}  // namespace normlab::engine
