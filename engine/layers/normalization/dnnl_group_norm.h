#pragma once

#include "engine/dnnl/primitives.h"
#include "engine/graph/graph.h"
#include "engine/layers/layer.h"
#include "engine/layers/normalization/channel_kernels.h"

namespace normlab::engine {

// Layer norm of dense features [N,D] by oneDNN's primitive.
class DnnlLayerNorm final : public Layer {
 public:
  DnnlLayerNorm(const Node& node, const GroupNormNode& norm, const LayerParameters& parameters);

  absl::StatusOr<View> PlanForward(Planner& planner, absl::Span<const View> inputs) override;
  absl::StatusOr<View> PlanBackward(Planner& planner, const View& d_y, bool wants_d_x) override;
  void Forward() override;
  void Backward() override { RunAll(backward_); }

 private:
  absl::Status BindCommon(Planner& planner, Op& op) const;

  const LayerNormOptions options_;
  const int64_t columns_;
  const LayerParameters parameters_;

  RunState* run_ = nullptr;
  View x_;
  Buffer* mean_ = nullptr;  // [N], outputs in evaluation too: what is not finite shows in them
  Buffer* var_ = nullptr;
  const Op* forward_op_ = nullptr;
  OpList forward_;
  OpList backward_;
};

// Group norm of plain tensors by oneDNN's batch norm on the view [1, N G, (C/G) H, W], in which a
// group is a channel; gamma and beta, which are not per such channel, by our own loops.
class DnnlGroupNorm final : public Layer {
 public:
  DnnlGroupNorm(const Node& node, const GroupNormNode& norm, const LayerParameters& parameters);

  absl::StatusOr<View> PlanForward(Planner& planner, absl::Span<const View> inputs) override;
  absl::StatusOr<View> PlanBackward(Planner& planner, const View& d_y, bool wants_d_x) override;
  void Forward() override;
  void Backward() override;

 private:
  ChannelBlocking AffineBlocking(int64_t batch) const;

  const Node node_;
  const BatchNormOptions options_;
  const int64_t groups_;
  const LayerParameters parameters_;
  const std::vector<float> zeros_;  // [C]

  RunState* run_ = nullptr;
  Layout view_layout_;
  ChannelBlocking blocking_;  // as gamma and beta apply
  View x_;
  View normalized_;  // before gamma and beta; y itself without them
  View y_;
  View d_y_;
  View d_normalized_;
  Buffer* mean_ = nullptr;  // [N G]
  Buffer* var_ = nullptr;
  Buffer* sums_ = nullptr;
  const Op* forward_op_ = nullptr;
  OpList forward_;
  OpList convert_d_y_;
  OpList backward_;
};

}  // namespace normlab::engine
