#pragma once

#include "engine/graph/graph.h"
#include "engine/layers/layer.h"

namespace normlab::engine {

// y = f(x) elementwise. Plain and small tensors (and every SELU) are computed by the loops of
// elementwise.h, others by oneDNN in whatever layout x has.
class ActivationLayer final : public Layer {
 public:
  ActivationLayer(const Node& node, const ActivationNode& activation)
      : Layer(node.name), kind_(activation.kind) {}

  absl::StatusOr<View> PlanForward(Planner& planner, absl::Span<const View> inputs) override;
  absl::StatusOr<View> PlanBackward(Planner& planner, const View& d_y, bool wants_d_x) override;
  void Forward() override;
  void Backward() override;

 private:
  const ActivationKind kind_;

  int64_t own_count_ = 0;  // elements when our loops compute it, else 0
  RunState* run_ = nullptr;
  View x_;
  View y_;
  View d_y_;
  View d_x_;
  bool check_nan_ = false;  // oneDNN's ReLU loses NaN
  const Op* forward_op_ = nullptr;
  OpList forward_;
  OpList backward_;
};

}  // namespace normlab::engine
