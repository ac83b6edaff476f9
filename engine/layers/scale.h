#pragma once

#include "engine/graph/graph.h"
#include "engine/layers/layer.h"
#include "engine/layers/scalar_kernels.h"

namespace normlab::engine {

// y = scale x, with one learnable number. d_scale = sum of d_y x, in double, the same for any number
// of threads. In F32 and in x's order.
class ScaleLayer final : public Layer {
 public:
  ScaleLayer(const Node& node, const LayerParameters& parameters)
      : Layer(node.name), parameters_(parameters) {}

  absl::StatusOr<View> PlanForward(Planner& planner, absl::Span<const View> inputs) override;
  absl::StatusOr<View> PlanBackward(Planner& planner, const View& d_y, bool wants_d_x) override;
  void Forward() override;
  void Backward() override;

 private:
  const LayerParameters parameters_;

  View x_;
  View y_;
  View d_y_;
  View d_x_;  // empty: not wanted
  ExactSum sum_;
  OpList forward_;
  OpList backward_;
};

// y = x + bias, with one learnable number; d_bias = sum of d_y, as ScaleLayer's sum. Channels that
// pad a blocked layout stay zero. In F32 and in x's order.
class ScalarBiasLayer final : public Layer {
 public:
  ScalarBiasLayer(const Node& node, const LayerParameters& parameters)
      : Layer(node.name), parameters_(parameters) {}

  absl::StatusOr<View> PlanForward(Planner& planner, absl::Span<const View> inputs) override;
  absl::StatusOr<View> PlanBackward(Planner& planner, const View& d_y, bool wants_d_x) override;
  void Forward() override;
  void Backward() override;

 private:
  const LayerParameters parameters_;

  ChannelBlocking blocking_;
  View x_;
  View y_;
  View d_y_;
  ExactSum sum_;
  OpList forward_;
  OpList backward_;
};

}  // namespace normlab::engine
