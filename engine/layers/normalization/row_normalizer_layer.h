#pragma once

#include <memory>
#include <optional>

#include "engine/graph/graph.h"
#include "engine/layers/layer.h"
#include "engine/layers/normalization/row_normalizer.h"

namespace normlab::engine {

// A RowNormalizer as a layer: layer, group and RMS norm of dense features, a ReLU that follows in
// the same pass.
class RowNormalizerLayer final : public Layer {
 public:
  RowNormalizerLayer(const Node& node,
                     const NormalizerFormula& formula,
                     int64_t groups,
                     std::optional<ActivationKind> fusible,
                     const LayerParameters& parameters);

  absl::StatusOr<View> PlanForward(Planner& planner, absl::Span<const View> inputs) override;
  bool fused() const override { return options_.relu; }
  absl::StatusOr<View> PlanBackward(Planner& planner, const View& d_y, bool wants_d_x) override;
  void Forward() override;
  void Backward() override;

 private:
  const RowNormalizerOptions options_;
  const int64_t columns_;
  const LayerParameters parameters_;

  std::unique_ptr<RowNormalizer> normalizer_;
  RunState* run_ = nullptr;
  View x_;
  View y_;
  View d_y_;
  View d_x_;
  Buffer* forward_scratch_ = nullptr;
  Buffer* backward_scratch_ = nullptr;
  OpList forward_;
  OpList backward_;
};

}  // namespace normlab::engine
