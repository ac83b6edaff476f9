#include "engine/train/evaluator.h"

#include <algorithm>

#include "common/status_macros.h"

namespace normlab::engine {

absl::StatusOr<Evaluator> Evaluator::Plan(const Graph& graph,
                                          ModelState& model,
                                          const BatchSource& source,
                                          int64_t batch_size,
                                          NetworkOptions options) {
  Evaluator evaluator(source);
  const int64_t examples = source.length().test_examples;
  evaluator.batch_size_ = std::min(batch_size, examples);
  options.mode = Mode::kEvaluation;
  options.batch_size = evaluator.batch_size_;
  NORMLAB_ASSIGN_OR_RETURN(evaluator.full_, Network::Plan(graph, model, options));
  options.batch_size = examples % evaluator.batch_size_;
  if (options.batch_size > 0) {
    NORMLAB_ASSIGN_OR_RETURN(evaluator.rest_, Network::Plan(graph, model, options));
  }
  return evaluator;
}

std::optional<EvaluationResult> Evaluator::Run(const std::stop_token& stop) {
  full_->ParametersChanged();
  if (rest_ != nullptr) {
    rest_->ParametersChanged();
  }
  const int64_t examples = source_->length().test_examples;
  double loss_sum = 0;
  int64_t correct = 0;
  for (int64_t first = 0; first < examples; first += batch_size_) {
    if (stop.stop_requested()) {
      return std::nullopt;
    }
    const int64_t count = std::min(batch_size_, examples - first);
    Network& network = count == batch_size_ ? *full_ : *rest_;
    source_->LoadTest(first, network.input(), network.labels());
    const BatchResult result = network.Forward();
    loss_sum += result.loss * static_cast<double>(count);
    correct += result.correct;
  }
  return EvaluationResult{loss_sum / static_cast<double>(examples),
                          static_cast<double>(correct) / static_cast<double>(examples)};
}

int64_t Evaluator::planned_bytes() const {
  return full_->planned_bytes() + (rest_ != nullptr ? rest_->planned_bytes() : 0);
}

}  // namespace normlab::engine
