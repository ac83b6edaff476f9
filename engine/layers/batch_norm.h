#pragma once

#include <memory>
#include <optional>

#include "engine/dnnl/primitives.h"
#include "engine/graph/graph.h"
#include "engine/layers/layer.h"

namespace normlab::engine {

// y = gamma (x - mean) / sqrt(var + epsilon) + beta per channel (Ioffe and Szegedy 2015), over N
// for [N,C] and over N,H,W for [N,C,H,W]. Training: mean and biased variance of the batch, with
// gradient through them; running statistics move by running_update_rate towards the batch's mean
// and *unbiased* variance. Evaluation: running statistics. An epsilon of 0 counts as 1.2e-38.
//
// May compute the activation that follows as well, in the same pass; then y is the activation's
// output and the normalizer's own output never exists.
class BatchNormLayer : public Layer {
 public:
  // `fusible`: the activation that follows, when it may be fused.
  static std::unique_ptr<BatchNormLayer> Make(const Node& node,
                                              const BatchNormNode& norm,
                                              std::optional<ActivationKind> fusible,
                                              const LayerParameters& parameters);

  // INVALID_ARGUMENT in training when there is one value per channel only.
  absl::StatusOr<View> PlanForward(Planner& planner, absl::Span<const View> inputs) final;

  bool fused() const final { return fused_; }

 protected:
  BatchNormLayer(const Node& node,
                 const BatchNormNode& norm,
                 std::optional<ActivationKind> fusible,
                 const LayerParameters& parameters);

  virtual absl::StatusOr<View> PlanNormalization(Planner& planner, const View& x) = 0;

  // Moves the running statistics towards the batch's, unless the run says no.
  void UpdateRunning() const;

  const BatchNormNode norm_;
  const int64_t channels_;
  const int64_t area_;  // values per channel of one example
  const std::optional<ActivationKind> fusible_;
  const LayerParameters parameters_;

  RunState* run_ = nullptr;
  bool training_ = false;
  bool fused_ = false;
  int64_t set_ = 0;  // values normalized together
  // The statistics in use: the batch's own, or the running ones.
  Buffer* mean_ = nullptr;
  Buffer* var_ = nullptr;
};

}  // namespace normlab::engine
