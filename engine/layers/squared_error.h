#pragma once

#include <cstdint>

#include "engine/graph/graph.h"
#include "engine/layers/loss.h"

namespace normlab::engine {

// loss = sum over batch and outputs of (y - target)^2, or its mean over both, for outputs [N,T];
// d_y = 2 (y - target), over N*T for the mean (torch.nn.MSELoss). Targets are [N,T] numbers, or
// labels [N] that count as vectors of 0 with one 1. Summed in double, in the order of the batch.
class SquaredErrorLayer final : public LossLayer {
 public:
  SquaredErrorLayer(const Node& node, const SquaredErrorNode& kind)
      : LossLayer(node.name), outputs_count_(node.in[0]), mean_(kind.mean) {}

  absl::StatusOr<View> PlanForward(Planner& planner, absl::Span<const View> inputs) override;
  absl::StatusOr<View> PlanBackward(Planner& planner, const View& d_y, bool wants_d_x) override;
  void Forward() override;
  void Backward() override;

  absl::Span<int32_t> labels() override;
  absl::Span<float> targets() override;
  absl::Span<const float> outputs() const override;
  double loss() const override { return loss_; }
  int64_t correct() const override { return correct_; }

 private:
  float TargetAt(int64_t n, int64_t t) const;

  const int64_t outputs_count_;
  const bool mean_;

  const RunState* run_ = nullptr;
  bool has_labels_ = true;
  int64_t batch_ = 0;
  int64_t loss_batch_ = 0;
  View y_;
  Buffer* labels_ = nullptr;
  Buffer* targets_ = nullptr;
  View d_y_;
  OpList forward_;
  double loss_ = 0;
  int64_t correct_ = 0;
};

}  // namespace normlab::engine
