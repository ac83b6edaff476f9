#pragma once

#include "engine/graph/graph.h"
#include "engine/layers/layer.h"

namespace normlab::engine {

// Zeros around an image [N,C,H,W]: of an odd number of missing rows or columns the larger half comes
// below and to the right. Works on plain F32, as the network's input is.
class PadLayer final : public Layer {
 public:
  explicit PadLayer(const Node& node) : Layer(node.name), in_(node.in), out_(node.out) {}

  absl::StatusOr<View> PlanForward(Planner& planner, absl::Span<const View> inputs) override;
  absl::StatusOr<View> PlanBackward(Planner& planner, const View& d_y, bool wants_d_x) override;
  void Forward() override;
  void Backward() override;

 private:
  const Dims in_;
  const Dims out_;

  int64_t planes_ = 0;  // N*C
  View x_;
  View y_;
  View d_y_;
  View d_x_;
  OpList forward_;
  OpList backward_;
};

}  // namespace normlab::engine
