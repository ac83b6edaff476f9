#pragma once

#include "engine/graph/graph.h"
#include "engine/layers/layer.h"

namespace normlab::engine {

// The shortcut without parameters of He et al. 2016 (option A): y [N,O,H',W'] has every stride-th
// pixel of every stride-th row of x [N,C,H,W], and zeros in the channels from C on. In F32; reads x
// in any order of its channels, gives its gradient in the same order, and y in plain order.
class SubsampleLayer final : public Layer {
 public:
  SubsampleLayer(const Node& node, const SubsampleNode& kind)
      : Layer(node.name), in_(node.in), out_(node.out), stride_(kind.stride) {}

  absl::StatusOr<View> PlanForward(Planner& planner, absl::Span<const View> inputs) override;
  absl::StatusOr<View> PlanBackward(Planner& planner, const View& d_y, bool wants_d_x) override;
  void Forward() override;
  void Backward() override;

 private:
  const Dims in_;
  const Dims out_;
  const int64_t stride_;

  ChannelBlocking blocking_;  // of x
  View x_;
  View y_;
  View d_y_;
  View d_x_;
  OpList forward_;
  OpList backward_;
};

}  // namespace normlab::engine
