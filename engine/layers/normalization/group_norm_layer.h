#pragma once

#include <memory>
#include <optional>

#include "engine/graph/graph.h"
#include "engine/layers/layer.h"

namespace normlab::engine {

// y = gamma (x - mean)/sqrt(var + epsilon) + beta per example over groups of channels and the whole
// image (Wu and He 2018); one group is layer norm (Ba et al. 2016), as many as channels instance
// norm (Ulyanov et al. 2016). mean and biased var of the group, with gradient through them, in
// training and evaluation alike. An epsilon of 0 counts as 1.2e-38.
//
// The implementations, by layer and layout (never by batch size: so all plans of a model compute
// alike):
//   oneDNN layer norm  dense features, one group
//   oneDNN batch norm  dense features in small groups, and small images in plain layout: the tensor
//                      seen as [1, N G, ...]
//   normlab:rows       dense features in larger groups
//   normlab:channels   other images: in the layout in which they come
class GroupNormLayer final : public Layer {
 public:
  // `fusible`: the activation that follows, when it may be fused.
  GroupNormLayer(const Node& node,
                 const GroupNormNode& norm,
                 std::optional<ActivationKind> fusible,
                 const LayerParameters& parameters);

  // INVALID_ARGUMENT: a group has one value.
  absl::StatusOr<View> PlanForward(Planner& planner, absl::Span<const View> inputs) override;
  bool fused() const override { return chosen_->fused(); }
  absl::StatusOr<View> PlanBackward(Planner& planner, const View& d_y, bool wants_d_x) override {
    return chosen_->PlanBackward(planner, d_y, wants_d_x);
  }
  void Forward() override { chosen_->Forward(); }
  void Backward() override { chosen_->Backward(); }

 private:
  std::unique_ptr<Layer> Choose(const Layout& x) const;

  const Node node_;
  const GroupNormNode norm_;
  const std::optional<ActivationKind> fusible_;
  const LayerParameters parameters_;
  std::unique_ptr<Layer> chosen_;  // after PlanForward
};

}  // namespace normlab::engine
