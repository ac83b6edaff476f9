#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "engine/data/batch_source.h"
#include "engine/graph/graph.h"
#include "engine/train/network.h"

#include "normlab/v1/spec.pb.h"

namespace normlab::engine {

// What all probes of a run compute with: a model of their own, networks planned on it as the trained one is (same
// algorithms and threads), and batches. One network at a time; every probe sets the parameters that it wants.
//
// Not thread-safe. Does not own the graph, the trained model and the data, which must outlive it.
class ProbeWorkspace {
 public:
  struct Needs {
    bool training = false;  // losses and gradients
    bool unfused = false;   // what layers put out, and its gradients
    bool evaluation = false;
    bool saved_parameters = false;  // those before an update, after it
    int64_t last_batch_size = 0;    // of an incomplete batch that is trained too; 0: there is none
  };

  // Errors as Network::Plan.
  static absl::StatusOr<std::unique_ptr<ProbeWorkspace>> Plan(const v1::JobSpec& resolved,
                                                              const Graph& graph,
                                                              const ModelState& trained,
                                                              const MappedDataset& data,
                                                              const Needs& needs,
                                                              MeasuredChoices* measured);

  const Graph& graph() const { return graph_; }
  int64_t planned_bytes() const;

  // Takes over the batch that `network` was given, for step `step`.
  void TakeBatch(int64_t step, int64_t batch_size, Network& network);
  // Copies the parameters, for SavedParameters.
  void SaveParameters();
  absl::Span<const float> saved_parameters() const { return saved_; }

  // The workspace's own model; to be filled before a pass.
  absl::Span<float> parameters() { return model_->parameters.span(); }
  absl::Span<float> statistics() { return model_->state.span(); }
  // Of the last Backward; valid until the next one.
  absl::Span<const float> gradients() const { return model_->gradients.span(); }
  // A second arena of that size, for sums and directions; any probe may overwrite it.
  absl::Span<float> scratch() { return scratch_.span(); }

  // Copies the running statistics, before the step's own forward pass changes them: some normalizers (batch renorm) use
  // them in training, and every pass of a probe must see the same ones.
  void SaveStatistics();
  // Parameters as the trained model has them, running statistics as SaveStatistics found them.
  void Reset();

  // Loss and gradient on the step's batch in training mode, at parameters(), with the step's random draws. Running
  // statistics stay. With a loss that is not finite there is no backward pass.
  double LossAndGradientOnBatch();
  // The same with everything visible in the network returned; `backward`: gradients too.
  const Network& Unfused(bool backward);

  // Batch `number` of an endless stream of independent batches (every one drawn without repetition), with augmentation
  // and noise of their own, apart from training's.
  double LossAndGradientOnFreshBatch(uint64_t number);

  // Batches of a fixed set of training examples, without augmentation, none in two of them: `number` counts from 0 to
  // fixed_batches() - 1.
  int fixed_batches() const;
  double LossAndGradientOnFixedBatch(int number);
  // The outputs of the unfused network, with the noise that training draws at step `noise_step`.
  const Network& UnfusedOnFixedBatch(int number, int64_t noise_step);
  // In evaluation mode, with statistics().
  double EvaluationLossOnFixedBatch(int number);

 private:
  struct Plans {
    int64_t batch_size = 0;
    std::unique_ptr<Network> training;
    std::unique_ptr<Network> unfused;
    bool holds_batch = false;  // the training plan's input is the step's batch
  };

  ProbeWorkspace(const v1::JobSpec& resolved,
                 const Graph& graph,
                 const ModelState& trained,
                 const MappedDataset& data);

  void LoadFixed(int number, Network& network);
  static double LossAndGradient(Network& network);
  void GiveBatch(Network& network) const;
  const Network& RunUnfused(Network& network, bool backward);

  const Graph& graph_;
  const ModelState& trained_;
  // Draws batches under a seed of its own.
  BatchSource fresh_;
  BatchSource fixed_;
  std::unique_ptr<ModelState> model_;
  Arena scratch_;
  std::vector<float> saved_;
  std::vector<float> statistics_;  // of SaveStatistics
  std::vector<Plans> plans_;       // the first one for full batches
  std::unique_ptr<Network> evaluation_;

  int64_t step_ = 0;
  Plans* current_ = nullptr;  // of the step's batch
  Network* batch_ = nullptr;  // whose input the step's batch is in
};

}  // namespace normlab::engine
