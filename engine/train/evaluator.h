#pragma once

#include <memory>
#include <optional>
#include <stop_token>

#include "absl/status/statusor.h"

#include "engine/data/batch_source.h"
#include "engine/graph/graph.h"
#include "engine/train/network.h"
#include "engine/train/rank_team.h"

namespace normlab::engine {

struct EvaluationResult {
  double loss = 0;      // mean over all test examples; of a summed loss, the sum
  double accuracy = 0;  // share of test examples whose largest output is their label
};

// Computes loss and accuracy of the current model on every test example exactly once, with running
// statistics: one plan for full batches, one for the examples that remain.
//
// Not thread-safe. Does not own graph, model and source, which must outlive it.
class Evaluator {
 public:
  // `options`: of evaluation, with the batch size wanted (at least 1). Errors as Network::Plan.
  static absl::StatusOr<Evaluator> Plan(const Graph& graph,
                                        ModelState& model,
                                        const BatchSource& source,
                                        NetworkOptions options);

  // nullopt: stopped before the end. Ranks take turns at the batches, and all answer the same; rank 0
  // hears of the stop. Allocates nothing.
  std::optional<EvaluationResult> Run(const std::stop_token& stop, RankTeam& team);

  int64_t planned_bytes() const;

 private:
  explicit Evaluator(const BatchSource& source, bool loss_is_sum)
      : source_(&source), loss_is_sum_(loss_is_sum) {}

  const BatchSource* source_;
  bool loss_is_sum_ = false;
  int64_t batch_size_ = 0;
  std::unique_ptr<Network> full_;
  std::unique_ptr<Network> rest_;  // null: nothing remains
};

}  // namespace normlab::engine
