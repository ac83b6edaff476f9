#include "engine/layers/normalization/dynamic_tanh_layer.h"

#include "common/status_macros.h"
#include "engine/layers/normalization/layer_support.h"

namespace normlab::engine {
namespace {

constexpr char kImplementation[] = "normlab:channels";

}  // namespace

absl::StatusOr<View> DynamicTanhLayer::PlanForward(Planner& planner,
                                                   absl::Span<const View> inputs) {
  NORMLAB_ASSIGN_OR_RETURN(
      x_, planner.Convert(name(), inputs[0], KernelLayout(inputs[0].layout), forward_));
  tanh_.emplace(*x_.layout.channel_blocking(), TensorsOf(parameters_), parameters_.alpha,
                parameters_.d_alpha);
  y_ = planner.Reserve(x_.layout);
  y_.nan_checked = x_.nan_checked;
  planner.Record(name(), "forward", kImplementation);
  return y_;
}

absl::StatusOr<View> DynamicTanhLayer::PlanBackward(Planner& planner,
                                                    const View& d_y,
                                                    bool /*wants_d_x*/) {
  NORMLAB_ASSIGN_OR_RETURN(d_y_, planner.Convert(name(), d_y, x_.layout, backward_));
  planner.Use(x_);
  scratch_ = planner.Reserve(tanh_->scratch_bytes());
  d_x_ = planner.Reserve(x_.layout);
  planner.Record(name(), "backward", kImplementation);
  return d_x_;
}

void DynamicTanhLayer::Forward() {
  RunAll(forward_);
  tanh_->Forward(x_.floats(), y_.floats());
}

void DynamicTanhLayer::Backward() {
  RunAll(backward_);
  tanh_->Backward(x_.floats(), d_y_.floats(), d_x_.floats(), scratch_->data);
}

}  // namespace normlab::engine
