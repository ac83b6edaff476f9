#pragma once

#include <memory>

#include "engine/dnnl/primitives.h"
#include "engine/graph/graph.h"
#include "engine/layers/convolution_choice.h"
#include "engine/layers/layer.h"
#include "engine/layers/layer_weights.h"
#include "engine/layers/small_image_convolution.h"

namespace normlab::engine {

// y [N,O,H',W'] = cross-correlation of x [N,I,H,W] with w [O,I,K,K], plus b [O]; H' = floor((H + 2P
// - K)/S) + 1. With G groups w is [O,I/G,K,K], and the g-th O/G channels see the g-th I/G only. In bf16
// plans data and weights are bf16; the gradient of the weights is F32.
//
// oneDNN chooses all layouts; what differs from the neighbours' or from the model's plain weights
// is reordered. Each pass has its own algorithm, by PlanOptions::convolution:
//   kAuto      ChooseConvolution, a fixed rule; SmallImageConvolution where it fits
//   kDirect    direct
//   kWinograd  Winograd wherever oneDNN has it for whole blocks of 16 channels, else direct
//   kMeasure   the fastest candidate here and now, reorders included; SmallImageConvolution, which
//              no candidate comes near, where it fits
class Conv2dLayer final : public Layer {
 public:
  Conv2dLayer(const Node& node, const ConvNode& conv, const LayerParameters& parameters);

  absl::StatusOr<View> PlanForward(Planner& planner, absl::Span<const View> inputs) override;
  absl::StatusOr<View> PlanBackward(Planner& planner, const View& d_y, bool wants_d_x) override;
  void ParametersChanged() override;
  void Forward() override;
  void ForwardInitializing() override {
    if (weights_.depends_on_data()) {
      weights_.BeginInitialization();
      RefreshSmall();
      Forward();
      weights_.Initialize(y_);
      RefreshSmall();
    }
    Forward();
  }
  void Backward() override;

 private:
  // Picks an algorithm and makes the op of a pass.
  absl::StatusOr<Op*> PlanPass(Planner& planner,
                               ConvolutionPass pass,
                               const ConvolutionNeighbours& neighbours);
  absl::Status PlanBackwardWeights(Planner& planner, const View& d_y);
  absl::StatusOr<View> PlanBackwardData(Planner& planner, const View& d_y);
  // Whether SmallImageConvolution computes the pass; makes it if so.
  bool UsesSmall(const Planner& planner, ConvolutionPass pass);
  void RefreshSmall() const;

  const Dims in_;
  const Dims out_;
  const Dims weight_dims_;
  const WindowGeometry geometry_;
  const bool bias_;
  const LayerParameters parameters_;
  LayerWeights weights_;

  ConvolutionProblem problem_;
  View given_x_;
  View x_;  // as the forward op reads it
  View w_;  // likewise
  View y_;
  std::unique_ptr<SmallImageConvolution> small_;  // null: computes no pass
  // Of the passes that it does not compute.
  OpList forward_;
  OpList backward_weights_;
  OpList backward_data_;
  bool small_forward_ = false;
  bool small_weights_ = false;
  bool small_data_ = false;
};

}  // namespace normlab::engine
