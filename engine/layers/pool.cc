#include "engine/layers/pool.h"

#include "common/status_macros.h"
#include "engine/layers/nan_check.h"

namespace normlab::engine {

PoolLayer::PoolLayer(const Node& node, const PoolNode& pool)
    : Layer(node.name),
      out_(node.out),
      max_(pool.kind == PoolKind::kMax),
      geometry_{.kernel = pool.window, .stride = pool.stride, .padding = 0} {}

absl::StatusOr<View> PoolLayer::PlanForward(Planner& planner, absl::Span<const View> inputs) {
  const View& x = inputs[0];
  x_ = x;
  run_ = &planner.run();
  NORMLAB_ASSIGN_OR_RETURN(
      Op * op,
      planner.Adopt(name(), "forward",
                    MakePoolForward(
                        planner.runtime(), max_, geometry_, x.layout,
                        Layout::Any({planner.batch(), out_[0], out_[1], out_[2]}, x.layout.type()),
                        planner.training())));
  y_ = planner.Reserve(op->layout(Arg::kDestination));
  y_.nan_checked = max_ || x.nan_checked;
  if (op->has(Arg::kWorkspace)) {
    workspace_ = planner.Reserve(op->layout(Arg::kWorkspace).bytes());
  }
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kSource, x.buffer));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kDestination, y_.buffer));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kWorkspace, workspace_));
  forward_op_ = op;
  return y_;
}

void PoolLayer::Forward() {
  forward_op_->Run();
  if (max_ && !x_.nan_checked && HasNan(x_)) {
    run_->saw_nan = true;
  }
}

absl::StatusOr<View> PoolLayer::PlanBackward(Planner& planner,
                                             const View& d_y,
                                             bool /*wants_d_x*/) {
  NORMLAB_ASSIGN_OR_RETURN(const View d_out, planner.Convert(name(), d_y, y_.layout, backward_));
  const View d_x = planner.Reserve(x_.layout);
  NORMLAB_ASSIGN_OR_RETURN(
      Op * op, planner.Adopt(name(), "backward_data",
                             MakePoolBackward(planner.runtime(), max_, geometry_, d_x.layout,
                                              d_out.layout, *forward_op_)));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kDiffDestination, d_out.buffer));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kDiffSource, d_x.buffer));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kWorkspace, workspace_));
  backward_.push_back(op);
  return d_x;
}

}  // namespace normlab::engine
