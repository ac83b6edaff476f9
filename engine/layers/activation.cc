#include "engine/layers/activation.h"

#include "common/status_macros.h"
#include "engine/dnnl/primitives.h"
#include "engine/layers/elementwise.h"

namespace normlab::engine {
namespace {

constexpr char kOwnLoop[] = "normlab:loop";

EltwiseKind ToEltwise(ActivationKind kind) {
  switch (kind) {
    case ActivationKind::kSigmoid:
      return EltwiseKind::kSigmoid;
    case ActivationKind::kTanh:
      return EltwiseKind::kTanh;
    case ActivationKind::kIdentity:  // never asked: computed by passing x on
    case ActivationKind::kRelu:
      return EltwiseKind::kRelu;
  }
  return EltwiseKind::kRelu;
}

}  // namespace

absl::StatusOr<View> ActivationLayer::PlanForward(Planner& planner, const View& x) {
  x_ = x;
  if (kind_ == ActivationKind::kIdentity) {
    y_ = x;
    return y_;
  }
  y_ = planner.Reserve(x.layout);
  const int64_t count = ElementCount(x.layout.dims());
  if (x.layout.is_row_major() && count <= kSmallTensorElements) {
    own_count_ = count;
    planner.Record(name(), "forward", kOwnLoop);
    return y_;
  }
  NORMLAB_ASSIGN_OR_RETURN(
      Op * op, planner.Adopt(name(), "forward",
                             MakeEltwiseForward(planner.runtime(), ToEltwise(kind_), x.layout,
                                                planner.training())));
  NORMLAB_RETURN_IF_ERROR(op->Bind(Arg::kSource, x.buffer));
  NORMLAB_RETURN_IF_ERROR(op->Bind(Arg::kDestination, y_.buffer));
  forward_op_ = op;
  return y_;
}

absl::StatusOr<View> ActivationLayer::PlanBackward(Planner& planner,
                                                   const View& d_y,
                                                   bool /*wants_d_x*/) {
  if (kind_ == ActivationKind::kIdentity) {
    d_x_ = d_y;
    return d_x_;
  }
  NORMLAB_ASSIGN_OR_RETURN(
      d_y_, planner.Convert(name(), d_y, y_.layout, BufferRole::kGradientCopy, backward_));
  d_x_ = planner.ReserveGradient(y_.layout, d_y);
  if (own_count_ > 0) {
    planner.Record(name(), "backward_data", kOwnLoop);
    return d_x_;
  }
  NORMLAB_ASSIGN_OR_RETURN(
      Op * op, planner.Adopt(name(), "backward_data",
                             MakeEltwiseBackward(planner.runtime(), ToEltwise(kind_), y_.layout,
                                                 *forward_op_)));
  NORMLAB_RETURN_IF_ERROR(op->Bind(Arg::kDestination, y_.buffer));
  NORMLAB_RETURN_IF_ERROR(op->Bind(Arg::kDiffDestination, d_y_.buffer));
  NORMLAB_RETURN_IF_ERROR(op->Bind(Arg::kDiffSource, d_x_.buffer));
  backward_.push_back(op);
  return d_x_;
}

void ActivationLayer::Forward() {
  if (own_count_ > 0) {
    ActivationForward(kind_, own_count_, x_.floats(), y_.floats());
  } else if (forward_op_ != nullptr) {
    forward_op_->Run();
    if (kind_ == ActivationKind::kRelu) {
      KeepNan(x_.float_count(), x_.floats(), y_.floats());
    }
  }
}

void ActivationLayer::Backward() {
  RunAll(backward_);
  if (own_count_ > 0) {
    ActivationBackward(kind_, own_count_, y_.floats(), d_y_.floats(), d_x_.floats());
  }
}

}  // namespace normlab::engine
