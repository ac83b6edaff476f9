#pragma once

#include "engine/graph/graph.h"
#include "engine/layers/layer.h"

namespace normlab::engine {

// [N,C,H,W] -> [N, C*H*W] in row-major order: no work when x lies so already, else one reorder.
class FlattenLayer final : public Layer {
 public:
  explicit FlattenLayer(const Node& node) : Layer(node.name) {}

  absl::StatusOr<View> PlanForward(Planner& planner, absl::Span<const View> inputs) override;
  absl::StatusOr<View> PlanBackward(Planner& planner, const View& d_y, bool wants_d_x) override;
  void Forward() override { RunAll(forward_); }
  void Backward() override { RunAll(backward_); }

 private:
  Dims x_dims_;
  OpList forward_;
  OpList backward_;
};

}  // namespace normlab::engine
