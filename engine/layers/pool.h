#pragma once

#include <cstdint>
#include <optional>

#include "engine/dnnl/primitives.h"
#include "engine/graph/graph.h"
#include "engine/layers/layer.h"
#include "engine/layers/max_pool_kernels.h"

namespace normlab::engine {

// Maximum or mean over square windows of x [N,C,H,W]; windows that do not fit are dropped. Of equal
// maxima the first (row by row) gets the gradient; the forward pass keeps which one it was in a
// workspace. Works in x's layout. Maxima over windows of 2x2 with stride 2 are found by loops of our
// own (max_pool_kernels.h) where channels lie in blocks and images are small, everything else by oneDNN.
class PoolLayer final : public Layer {
 public:
  PoolLayer(const Node& node, const PoolNode& pool);

  absl::StatusOr<View> PlanForward(Planner& planner, absl::Span<const View> inputs) override;
  absl::StatusOr<View> PlanBackward(Planner& planner, const View& d_y, bool wants_d_x) override;
  void Forward() override;
  void Backward() override;

 private:
  // Whether our own loops suit x, and y in the layout that oneDNN gives it; sets own_ then.
  bool ChooseOwnLoops(const Layout& y);
  uint8_t* winner() const {
    return workspace_ == nullptr ? nullptr : reinterpret_cast<uint8_t*>(workspace_->data);
  }

  const Dims out_;
  const bool max_;
  const Dims in_;
  const WindowGeometry geometry_;

  RunState* run_ = nullptr;
  View x_;
  View y_;
  Buffer* workspace_ = nullptr;
  View d_y_;
  View d_x_;
  const Op* forward_op_ = nullptr;
  std::optional<MaxPoolShape> own_;
  OpList backward_;
};

}  // namespace normlab::engine
