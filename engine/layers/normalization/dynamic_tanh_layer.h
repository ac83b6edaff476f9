#pragma once

#include <optional>

#include "engine/graph/graph.h"
#include "engine/layers/layer.h"
#include "engine/layers/normalization/dynamic_tanh.h"

namespace normlab::engine {

// DynamicTanh as a layer, in any layout of blocks of channels.
class DynamicTanhLayer final : public Layer {
 public:
  DynamicTanhLayer(const Node& node, const LayerParameters& parameters)
      : Layer(node.name), parameters_(parameters) {}

  absl::StatusOr<View> PlanForward(Planner& planner, absl::Span<const View> inputs) override;
  absl::StatusOr<View> PlanBackward(Planner& planner, const View& d_y, bool wants_d_x) override;
  void Forward() override;
  void Backward() override;

 private:
  const LayerParameters parameters_;

  std::optional<DynamicTanh> tanh_;
  View x_;
  View y_;
  View d_y_;
  View d_x_;
  Buffer* scratch_ = nullptr;
  OpList forward_;
  OpList backward_;
};

}  // namespace normlab::engine
