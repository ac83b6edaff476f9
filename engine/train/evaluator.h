#pragma once

#include <memory>
#include <optional>
#include <stop_token>

#include "absl/status/statusor.h"

#include "engine/data/batch_source.h"
#include "engine/graph/graph.h"
#include "engine/train/network.h"

namespace normlab::engine {

struct EvaluationResult {
  double loss = 0;      // mean over all test examples
  double accuracy = 0;  // share of test examples whose largest logit is their label
};

// Computes loss and accuracy of the current model on every test example exactly once, with running
// statistics: one plan for full batches, one for the examples that remain.
//
// Not thread-safe. Does not own graph, model and source, which must outlive it.
class Evaluator {
 public:
  // `batch_size` at least 1; that of `options`, and its mode, do not count. Errors as Network::Plan.
  static absl::StatusOr<Evaluator> Plan(const Graph& graph,
                                        ModelState& model,
                                        const BatchSource& source,
                                        int64_t batch_size,
                                        NetworkOptions options);

  // nullopt: stopped before the end. Allocates nothing.
  std::optional<EvaluationResult> Run(const std::stop_token& stop);

  int64_t planned_bytes() const;

 private:
  explicit Evaluator(const BatchSource& source) : source_(&source) {}

  const BatchSource* source_;
  int64_t batch_size_ = 0;
  std::unique_ptr<Network> full_;
  std::unique_ptr<Network> rest_;  // null: nothing remains
};

}  // namespace normlab::engine
