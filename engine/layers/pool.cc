#include "engine/layers/pool.h"

#include "common/status_macros.h"
#include "engine/layers/elementwise.h"

namespace normlab::engine {

PoolLayer::PoolLayer(const Node& node, const PoolNode& pool)
    : Layer(node.name),
      out_(node.out),
      max_(pool.kind == PoolKind::kMax),
      geometry_{.kernel = pool.window, .stride = pool.stride, .padding = 0} {}

absl::StatusOr<View> PoolLayer::PlanForward(Planner& planner, const View& x) {
  x_ = x;
  NORMLAB_ASSIGN_OR_RETURN(
      Op * op,
      planner.Adopt(name(), "forward",
                    MakePoolForward(planner.runtime(), max_, geometry_, x.layout,
                                    Layout::Any({planner.batch(), out_[0], out_[1], out_[2]}),
                                    planner.training())));
  y_ = planner.Reserve(op->layout(Arg::kDestination));
  if (op->has(Arg::kWorkspace)) {
    workspace_ = planner.Reserve(op->layout(Arg::kWorkspace).bytes());
  }
  NORMLAB_RETURN_IF_ERROR(op->Bind(Arg::kSource, x.buffer));
  NORMLAB_RETURN_IF_ERROR(op->Bind(Arg::kDestination, y_.buffer));
  NORMLAB_RETURN_IF_ERROR(op->Bind(Arg::kWorkspace, workspace_));
  forward_op_ = op;
  return y_;
}

void PoolLayer::Forward() {
  forward_op_->Run();
  if (max_) {
    KeepNan(x_.float_count(), x_.floats(), y_.floats());
  }
}

absl::StatusOr<View> PoolLayer::PlanBackward(Planner& planner,
                                             const View& d_y,
                                             bool /*wants_d_x*/) {
  NORMLAB_ASSIGN_OR_RETURN(const View d_out, planner.Convert(name(), d_y, y_.layout,
                                                             BufferRole::kGradientCopy, backward_));
  const View d_x = planner.ReserveGradient(x_.layout, d_y);
  NORMLAB_ASSIGN_OR_RETURN(
      Op * op, planner.Adopt(name(), "backward_data",
                             MakePoolBackward(planner.runtime(), max_, geometry_, d_x.layout,
                                              d_out.layout, *forward_op_)));
  NORMLAB_RETURN_IF_ERROR(op->Bind(Arg::kDiffDestination, d_out.buffer));
  NORMLAB_RETURN_IF_ERROR(op->Bind(Arg::kDiffSource, d_x.buffer));
  NORMLAB_RETURN_IF_ERROR(op->Bind(Arg::kWorkspace, workspace_));
  backward_.push_back(op);
  return d_x;
}

}  // namespace normlab::engine
