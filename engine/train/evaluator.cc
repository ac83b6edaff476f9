#include "engine/train/evaluator.h"

#include <algorithm>
#include <variant>

#include "common/status_macros.h"

namespace normlab::engine {

absl::StatusOr<Evaluator> Evaluator::Plan(const Graph& graph,
                                          ModelState& model,
                                          const BatchSource& source,
                                          NetworkOptions options) {
  const auto* squared = std::get_if<SquaredErrorNode>(&graph.nodes().back().kind);
  Evaluator evaluator(source, squared != nullptr && !squared->mean);
  const int64_t examples = source.length().test_examples;
  evaluator.batch_size_ = std::min(options.batch_size, examples);
  options.batch_size = evaluator.batch_size_;
  NORMLAB_ASSIGN_OR_RETURN(evaluator.full_, Network::Plan(graph, model, options));
  options.batch_size = examples % evaluator.batch_size_;
  if (options.batch_size > 0) {
    NORMLAB_ASSIGN_OR_RETURN(evaluator.rest_, Network::Plan(graph, model, options));
  }
  return evaluator;
}

std::optional<EvaluationResult> Evaluator::Run(const std::stop_token& stop, RankTeam& team) {
  full_->ParametersChanged();
  if (rest_ != nullptr) {
    rest_->ParametersChanged();
  }
  const int64_t examples = source_->length().test_examples;
  BatchResult sum;
  int64_t turn = 0;
  for (int64_t first = 0; first < examples; first += batch_size_, ++turn) {
    if (turn % team.size() == 0 && team.FromLead(stop.stop_requested())) {
      return std::nullopt;
    }
    if (turn % team.size() != team.rank()) {
      continue;
    }
    const int64_t count = std::min(batch_size_, examples - first);
    Network& network = count == batch_size_ ? *full_ : *rest_;
    source_->LoadTest(first, network.input(), network.labels(), network.targets());
    const BatchResult result = network.Forward();
    sum.loss += result.loss * (loss_is_sum_ ? 1.0 : static_cast<double>(count));
    sum.correct += result.correct;
  }
  sum = team.Sum(sum);
  return EvaluationResult{loss_is_sum_ ? sum.loss : sum.loss / static_cast<double>(examples),
                          static_cast<double>(sum.correct) / static_cast<double>(examples)};
}

int64_t Evaluator::planned_bytes() const {
  return full_->planned_bytes() + (rest_ != nullptr ? rest_->planned_bytes() : 0);
}

}  // namespace normlab::engine
