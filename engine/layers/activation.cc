#include "engine/layers/activation.h"

#include "common/status_macros.h"
#include "engine/dnnl/primitives.h"
#include "engine/layers/elementwise.h"
#include "engine/layers/nan_check.h"

namespace normlab::engine {
namespace {

constexpr char kOwnLoop[] = "normlab:loop";
constexpr float kEluAlpha = 1.0F;

struct Eltwise {
  EltwiseKind kind;
  float alpha = 1;
};

Eltwise ToEltwise(ActivationKind kind) {
  switch (kind) {
    case ActivationKind::kSigmoid:
      return {EltwiseKind::kSigmoid};
    case ActivationKind::kTanh:
      return {EltwiseKind::kTanh};
    case ActivationKind::kLeakyRelu:
      return {EltwiseKind::kLeakyRelu, kLeakySlope};
    case ActivationKind::kElu:
      return {EltwiseKind::kElu, kEluAlpha};
    case ActivationKind::kGelu:
      return {EltwiseKind::kGelu};
    case ActivationKind::kSilu:
      return {EltwiseKind::kSwish};
    case ActivationKind::kIdentity:  // never asked: computed by passing x on
    case ActivationKind::kSelu:      // never asked: only our own loop has it
    case ActivationKind::kRelu:
      break;
  }
  return {EltwiseKind::kRelu};
}

// Our loops win on small tensors. They see no padding, so the layout must be plain, but for SELU:
// it keeps zeros zero.
bool OwnLoop(ActivationKind kind, const Layout& layout) {
  if (kind == ActivationKind::kSelu) {
    return true;
  }
  return kind != ActivationKind::kGelu && layout.type() == DataType::kF32 &&
         layout.is_row_major() && layout.element_count() <= kSmallTensorElements;
}

}  // namespace

absl::StatusOr<View> ActivationLayer::PlanForward(Planner& planner, absl::Span<const View> inputs) {
  x_ = inputs[0];
  run_ = &planner.run();
  if (kind_ == ActivationKind::kIdentity) {
    y_ = x_;
    return y_;
  }
  if (kind_ == ActivationKind::kSelu) {
    NORMLAB_ASSIGN_OR_RETURN(
        x_, planner.Convert(name(), x_, x_.layout.WithType(DataType::kF32), forward_));
  }
  y_ = planner.Reserve(x_.layout);
  y_.nan_checked = x_.nan_checked;
  if (OwnLoop(kind_, x_.layout)) {
    planner.Use(x_);
    own_count_ = x_.layout.element_count();
    planner.Record(name(), "forward", kOwnLoop);
    return y_;
  }
  const Eltwise eltwise = ToEltwise(kind_);
  NORMLAB_ASSIGN_OR_RETURN(
      Op * op, planner.Adopt(name(), "forward",
                             MakeEltwiseForward(planner.runtime(), eltwise.kind, x_.layout,
                                                planner.training(), eltwise.alpha)));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kSource, x_.buffer));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kDestination, y_.buffer));
  forward_.push_back(op);
  forward_op_ = op;
  check_nan_ = kind_ == ActivationKind::kRelu && !x_.nan_checked;
  y_.nan_checked |= check_nan_;
  return y_;
}

absl::StatusOr<View> ActivationLayer::PlanBackward(Planner& planner,
                                                   const View& d_y,
                                                   bool /*wants_d_x*/) {
  if (kind_ == ActivationKind::kIdentity) {
    return d_y;
  }
  NORMLAB_ASSIGN_OR_RETURN(d_y_, planner.Convert(name(), d_y, y_.layout, backward_));
  d_x_ = planner.Reserve(y_.layout);
  const View& data = BackwardNeedsInput(kind_) ? x_ : y_;
  if (own_count_ > 0) {
    planner.Use(data);
    planner.Record(name(), "backward_data", kOwnLoop);
    return d_x_;
  }
  const Eltwise eltwise = ToEltwise(kind_);
  NORMLAB_ASSIGN_OR_RETURN(
      Op * op, planner.Adopt(name(), "backward_data",
                             MakeEltwiseBackward(planner.runtime(), eltwise.kind, y_.layout,
                                                 *forward_op_, eltwise.alpha)));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, EltwiseBackwardFrom(eltwise.kind), data.buffer));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kDiffDestination, d_y_.buffer));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kDiffSource, d_x_.buffer));
  backward_.push_back(op);
  return d_x_;
}

void ActivationLayer::Forward() {
  RunAll(forward_);
  if (own_count_ > 0) {
    ActivationForward(kind_, own_count_, x_.floats(), y_.floats());
  } else if (check_nan_ && HasNan(x_)) {
    run_->saw_nan = true;
  }
}

void ActivationLayer::Backward() {
  RunAll(backward_);
  if (own_count_ > 0) {
    const View& data = BackwardNeedsInput(kind_) ? x_ : y_;
    ActivationBackward(kind_, own_count_, data.floats(), d_y_.floats(), d_x_.floats());
  }
}

}  // namespace normlab::engine
