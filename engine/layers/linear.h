#pragma once

#include "engine/graph/graph.h"
#include "engine/layers/layer.h"
#include "engine/layers/layer_weights.h"

namespace normlab::engine {

// y [N,O] = x [N,I] w^T + b, w [O,I], b [O].
//
// Activations are always plain. In training the weights are, too: they change every step, and
// oneDNN's GEMM on plain weights is as fast as its blocked kernels plus the reorders of weights and
// gradients (within 5% from 60x100x100 to 256x1024x1024, up to 1.4 times faster in between). In
// evaluation the weights stay, so oneDNN chooses (10-30% faster). In bf16 plans x, y and working
// copies of the weights are bf16; as there is a copy anyway, oneDNN chooses its layout.
class LinearLayer final : public Layer {
 public:
  LinearLayer(const Node& node, const LinearNode& linear, const LayerParameters& parameters);

  absl::StatusOr<View> PlanForward(Planner& planner, absl::Span<const View> inputs) override;
  absl::StatusOr<View> PlanBackward(Planner& planner, const View& d_y, bool wants_d_x) override;
  void ParametersChanged() override { weights_.Refresh(); }
  void Forward() override { RunAll(forward_); }
  void ForwardInitializing() override {
    if (weights_.depends_on_data()) {
      weights_.BeginInitialization();
      Forward();
      weights_.Initialize(y_);
    }
    Forward();
  }
  void Backward() override {
    RunAll(backward_);
    weights_.StoreGradient();
  }

 private:
  // What the passes over the data are asked for.
  Layout WeightLayout(const Planner& planner) const;

  const int64_t in_;
  const int64_t out_;
  const bool bias_;
  const LayerParameters parameters_;
  LayerWeights weights_;

  DataType type_ = DataType::kF32;
  View x_;
  View y_;
  const Op* forward_op_ = nullptr;
  OpList forward_;
  OpList backward_;
};

}  // namespace normlab::engine
