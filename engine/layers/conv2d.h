#pragma once

#include "engine/dnnl/primitives.h"
#include "engine/graph/graph.h"
#include "engine/layers/layer.h"

namespace normlab::engine {

// y [N,O,H',W'] = cross-correlation of x [N,I,H,W] with w [O,I,K,K], plus b [O]; H' = floor((H + 2P
// - K)/S) + 1. With G groups w is [O,I/G,K,K], and the g-th O/G channels see the g-th I/G only.
//
// oneDNN chooses all layouts; what differs from the neighbours' or from the model's plain weights
// is reordered.
class Conv2dLayer final : public Layer {
 public:
  Conv2dLayer(const Node& node, const ConvNode& conv, const LayerParameters& parameters);

  absl::StatusOr<View> PlanForward(Planner& planner, absl::Span<const View> inputs) override;
  absl::StatusOr<View> PlanBackward(Planner& planner, const View& d_y, bool wants_d_x) override;
  void ParametersChanged() override { RunAll(refresh_); }
  void Forward() override { RunAll(forward_); }
  void Backward() override { RunAll(backward_); }

 private:
  absl::Status PlanBackwardWeights(Planner& planner, const View& d_y);
  absl::StatusOr<View> PlanBackwardData(Planner& planner, const View& d_y);

  const Dims in_;
  const Dims out_;
  const Dims weight_dims_;
  const WindowGeometry geometry_;
  const bool bias_;
  const LayerParameters parameters_;

  Dims x_dims_;  // with the batch
  Dims y_dims_;
  View x_;  // as the forward op reads it
  const Op* forward_op_ = nullptr;
  OpList refresh_;
  OpList forward_;
  OpList backward_;
};

}  // namespace normlab::engine
