#pragma once

#include "engine/graph/graph.h"
#include "engine/layers/layer.h"

namespace normlab::engine {

// y [N,C], plain = the mean of x [N,C,H,W] over H and W, in F32. Reads x in any order of its
// channels, and gives its gradient in the same order. Sums are in float, of one image by one thread
// in one order, so results do not depend on the number of threads.
class GlobalAveragePoolLayer final : public Layer {
 public:
  explicit GlobalAveragePoolLayer(const Node& node) : Layer(node.name) {}

  absl::StatusOr<View> PlanForward(Planner& planner, absl::Span<const View> inputs) override;
  absl::StatusOr<View> PlanBackward(Planner& planner, const View& d_y, bool wants_d_x) override;
  void Forward() override;
  void Backward() override;

 private:
  ChannelBlocking blocking_;
  View x_;
  View y_;
  View d_y_;
  View d_x_;
  OpList forward_;
  OpList backward_;
};

}  // namespace normlab::engine
