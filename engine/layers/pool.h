#pragma once

#include "engine/dnnl/primitives.h"
#include "engine/graph/graph.h"
#include "engine/layers/layer.h"

namespace normlab::engine {

// Maximum or mean over square windows of x [N,C,H,W]; windows that do not fit are dropped. Of equal
// maxima the first (row by row) gets the gradient; the forward pass keeps which one it was in a
// workspace. Works in x's layout.
class PoolLayer final : public Layer {
 public:
  PoolLayer(const Node& node, const PoolNode& pool);

  absl::StatusOr<View> PlanForward(Planner& planner, absl::Span<const View> inputs) override;
  absl::StatusOr<View> PlanBackward(Planner& planner, const View& d_y, bool wants_d_x) override;
  void Forward() override;
  void Backward() override { RunAll(backward_); }

 private:
  const Dims out_;
  const bool max_;
  const WindowGeometry geometry_;

  RunState* run_ = nullptr;
  View x_;
  View y_;
  Buffer* workspace_ = nullptr;
  const Op* forward_op_ = nullptr;
  OpList backward_;
};

}  // namespace normlab::engine
