#include "engine/layers/normalization/noisy_batch_norm_layer.h"

#include "common/status_macros.h"
#include "engine/layers/batch_norm.h"
#include "engine/layers/normalization/layer_support.h"

namespace normlab::engine {
namespace {

constexpr char kImplementation[] = "normlab:noise";

}  // namespace

NoisyBatchNormLayer::NoisyBatchNormLayer(const Node& node,
                                         const NoisyBatchNormNode& norm,
                                         std::optional<ActivationKind> fusible,
                                         const LayerParameters& parameters)
    : Layer(node.name), node_(node), norm_(norm), fusible_(fusible), parameters_(parameters) {}

std::unique_ptr<Layer> NoisyBatchNormLayer::MakeBatchNorm(bool training) const {
  if (!norm_.normalize) {
    return nullptr;
  }
  return BatchNormLayer::Make(node_, norm_.batch, training ? std::nullopt : fusible_, parameters_);
}

bool NoisyBatchNormLayer::fused() const {
  return batch_norm_ != nullptr && batch_norm_->fused();
}

absl::StatusOr<View> NoisyBatchNormLayer::PlanForward(Planner& planner,
                                                      absl::Span<const View> inputs) {
  run_ = &planner.run();
  batch_norm_ = MakeBatchNorm(planner.training());
  View normalized = inputs[0];
  if (batch_norm_ != nullptr) {
    NORMLAB_ASSIGN_OR_RETURN(normalized, batch_norm_->PlanForward(planner, inputs));
  }
  if (!planner.training()) {
    y_ = normalized;
    return y_;
  }
  NORMLAB_ASSIGN_OR_RETURN(
      quiet_, planner.Convert(name(), normalized, KernelLayout(normalized.layout), forward_));
  noise_.emplace(run_->seed, name(), *quiet_.layout.channel_blocking(),
                 ChannelNoiseOptions{.mean_range = norm_.mean_range,
                                     .deviation_range = norm_.deviation_range,
                                     .mean_jitter = norm_.mean_jitter,
                                     .deviation_jitter = norm_.deviation_jitter});
  // A batch norm's output, when no activation is fused, is read by nobody but us; x is not ours.
  y_ = quiet_.buffer == inputs[0].buffer ? planner.Reserve(quiet_.layout) : quiet_;
  y_.nan_checked = normalized.nan_checked;
  planner.Record(name(), "noise", kImplementation);
  return y_;
}

absl::StatusOr<View> NoisyBatchNormLayer::PlanBackward(Planner& planner,
                                                       const View& d_y,
                                                       bool wants_d_x) {
  if (!noise_.has_value()) {
    return batch_norm_ == nullptr ? d_y : batch_norm_->PlanBackward(planner, d_y, wants_d_x);
  }
  NORMLAB_ASSIGN_OR_RETURN(d_y_, planner.Convert(name(), d_y, y_.layout, backward_));
  d_quiet_ = planner.Reserve(y_.layout);
  if (batch_norm_ == nullptr) {
    return d_quiet_;
  }
  return batch_norm_->PlanBackward(planner, d_quiet_, wants_d_x);
}

void NoisyBatchNormLayer::Forward() {
  if (batch_norm_ != nullptr) {
    batch_norm_->Forward();
  }
  RunAll(forward_);
  if (noise_.has_value()) {
    noise_->BeginStep(static_cast<uint64_t>(run_->step));
    noise_->Forward(quiet_.floats(), y_.floats());
  }
}

void NoisyBatchNormLayer::Backward() {
  RunAll(backward_);
  if (noise_.has_value()) {
    noise_->Backward(d_y_.floats(), d_quiet_.floats());
  }
  if (batch_norm_ != nullptr) {
    batch_norm_->Backward();
  }
}

}  // namespace normlab::engine
