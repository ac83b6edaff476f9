#pragma once

#include <memory>
#include <optional>

#include "engine/graph/graph.h"
#include "engine/layers/layer.h"
#include "engine/layers/normalization/channel_noise.h"

namespace normlab::engine {

// Batch norm (BatchNormLayer), or nothing, then in training the noise of ChannelNoise, drawn with
// the run's seed and step under the layer's name. In evaluation there is no noise.
class NoisyBatchNormLayer final : public Layer {
 public:
  NoisyBatchNormLayer(const Node& node,
                      const NoisyBatchNormNode& norm,
                      std::optional<ActivationKind> fusible,
                      const LayerParameters& parameters);

  // As BatchNormLayer.
  absl::StatusOr<View> PlanForward(Planner& planner, absl::Span<const View> inputs) override;
  // In evaluation the batch norm may compute the activation, too.
  bool fused() const override;
  absl::StatusOr<View> PlanBackward(Planner& planner, const View& d_y, bool wants_d_x) override;
  void Forward() override;
  void Backward() override;

 private:
  std::unique_ptr<Layer> MakeBatchNorm(bool training) const;

  const Node node_;
  const NoisyBatchNormNode norm_;
  const std::optional<ActivationKind> fusible_;
  const LayerParameters parameters_;

  std::unique_ptr<Layer> batch_norm_;  // null without normalization
  std::optional<ChannelNoise> noise_;  // only in training
  RunState* run_ = nullptr;
  View quiet_;  // before the noise
  View y_;      // the same memory where nobody else reads `quiet_`
  View d_y_;
  View d_quiet_;
  OpList forward_;
  OpList backward_;
};

}  // namespace normlab::engine
