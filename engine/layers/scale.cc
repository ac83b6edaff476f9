#include "engine/layers/scale.h"

#include "common/status_macros.h"
#include "engine/layers/own_loops.h"

namespace normlab::engine {
namespace {

constexpr char kOwnLoop[] = "normlab:loop";

}  // namespace

absl::StatusOr<View> ScaleLayer::PlanForward(Planner& planner, absl::Span<const View> inputs) {
  NORMLAB_ASSIGN_OR_RETURN(
      x_, planner.Convert(name(), inputs[0], inputs[0].layout.WithType(DataType::kF32), forward_));
  y_ = planner.Reserve(x_.layout);
  planner.Record(name(), "forward", kOwnLoop);
  return y_;
}

absl::StatusOr<View> ScaleLayer::PlanBackward(Planner& planner, const View& d_y, bool wants_d_x) {
  NORMLAB_ASSIGN_OR_RETURN(d_y_, planner.Convert(name(), d_y, y_.layout, backward_));
  planner.Use(x_);
  sum_ = ExactSum(x_.layout.element_count());
  if (wants_d_x) {
    d_x_ = planner.Reserve(x_.layout);
  }
  planner.Record(name(), "backward", kOwnLoop);
  return d_x_;
}

void ScaleLayer::Forward() {
  RunAll(forward_);
  ScaleBy(x_.layout.element_count(), *parameters_.scale, x_.floats(), y_.floats());
}

void ScaleLayer::Backward() {
  RunAll(backward_);
  *parameters_.d_scale = static_cast<float>(sum_(d_y_.floats(), x_.floats()));
  if (d_x_.buffer != nullptr) {
    ScaleBy(x_.layout.element_count(), *parameters_.scale, d_y_.floats(), d_x_.floats());
  }
}

absl::StatusOr<View> ScalarBiasLayer::PlanForward(Planner& planner, absl::Span<const View> inputs) {
  NORMLAB_ASSIGN_OR_RETURN(x_, PlanForOwnLoops(planner, name(), inputs[0], forward_));
  blocking_ = *x_.layout.channel_blocking();
  y_ = planner.Reserve(x_.layout);
  planner.Record(name(), "forward", kOwnLoop);
  return y_;
}

absl::StatusOr<View> ScalarBiasLayer::PlanBackward(Planner& planner,
                                                   const View& d_y,
                                                   bool /*wants_d_x*/) {
  NORMLAB_ASSIGN_OR_RETURN(
      d_y_, planner.Convert(name(), d_y, d_y.layout.WithType(DataType::kF32), backward_));
  sum_ = ExactSum(d_y_.layout.element_count());
  planner.Record(name(), "backward", kOwnLoop);
  return d_y_;
}

void ScalarBiasLayer::Forward() {
  RunAll(forward_);
  AddScalar(blocking_, *parameters_.bias, x_.floats(), y_.floats());
}

void ScalarBiasLayer::Backward() {
  RunAll(backward_);
  *parameters_.d_bias = static_cast<float>(sum_(d_y_.floats(), nullptr));
}

}  // namespace normlab::engine
