#include "engine/layers/pool.h"

#include <optional>
#include <utility>

#include "common/status_macros.h"
#include "engine/layers/nan_check.h"

namespace normlab::engine {
namespace {

constexpr char kOwnLoops[] = "normlab:max_2x2";

}  // namespace

PoolLayer::PoolLayer(const Node& node, const PoolNode& pool)
    : Layer(node.name),
      out_(node.out),
      max_(pool.kind == PoolKind::kMax),
      in_(node.in),
      geometry_{.kernel = pool.window, .stride = pool.stride, .padding = 0} {}

bool PoolLayer::ChooseOwnLoops(const Layout& y) {
  const std::optional<ChannelBlocking> in = x_.layout.channel_blocking();
  const std::optional<ChannelBlocking> out = y.channel_blocking();
  if (!max_ || geometry_.kernel != 2 || geometry_.stride != 2 || !in.has_value() ||
      !out.has_value() || in->block < kLeastMaxPoolBlock || in->area > kLargestMaxPoolArea ||
      in->blocks() != out->blocks() || in->block != out->block) {
    return false;
  }
  own_ = {.x = *in, .height = in_[1], .width = in_[2]};
  return true;
}

absl::StatusOr<View> PoolLayer::PlanForward(Planner& planner, absl::Span<const View> inputs) {
  const View& x = inputs[0];
  x_ = x;
  run_ = &planner.run();
  absl::StatusOr<Op> made =
      MakePoolForward(planner.runtime(), max_, geometry_, x.layout,
                      Layout::Any({planner.batch(), out_[0], out_[1], out_[2]}, x.layout.type()),
                      planner.training());
  if (made.ok() && ChooseOwnLoops(made->layout(Arg::kDestination))) {
    y_ = planner.Reserve(made->layout(Arg::kDestination));
    y_.nan_checked = x.nan_checked;
    if (planner.training()) {
      workspace_ = planner.Reserve(y_.layout.element_count());
    }
    planner.Use(x);
    planner.Record(name(), "forward", kOwnLoops);
    return y_;
  }
  NORMLAB_ASSIGN_OR_RETURN(Op * op, planner.Adopt(name(), "forward", std::move(made)));
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
  if (own_.has_value()) {
    MaxPoolForward(*own_, x_, y_, winner());
    return;
  }
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
  if (own_.has_value()) {
    d_y_ = d_out;
    d_x_ = d_x;
    planner.Use(workspace_);
    planner.Record(name(), "backward_data", kOwnLoops);
    return d_x;
  }
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

void PoolLayer::Backward() {
  RunAll(backward_);
  if (own_.has_value()) {
    MaxPoolBackward(*own_, d_y_, winner(), d_x_);
  }
}

}  // namespace normlab::engine
