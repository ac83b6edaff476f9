#include "engine/layers/conv2d.h"

#include "common/status_macros.h"
#include "engine/layers/weights.h"

namespace normlab::engine {
namespace {

// [O,I,K,K], or [G,O/G,I/G,K,K]: the same numbers in the same order as [O,I/G,K,K].
Dims WeightDims(const Node& node, const ConvNode& conv) {
  if (conv.groups == 1) {
    return {conv.out_channels, node.in[0], conv.kernel, conv.kernel};
  }
  return {conv.groups, conv.out_channels / conv.groups, node.in[0] / conv.groups, conv.kernel,
          conv.kernel};
}

}  // namespace

Conv2dLayer::Conv2dLayer(const Node& node, const ConvNode& conv, const LayerParameters& parameters)
    : Layer(node.name),
      in_(node.in),
      out_(node.out),
      weight_dims_(WeightDims(node, conv)),
      geometry_{.kernel = conv.kernel, .stride = conv.stride, .padding = conv.padding},
      bias_(conv.bias),
      parameters_(parameters) {}

absl::StatusOr<View> Conv2dLayer::PlanForward(Planner& planner, absl::Span<const View> inputs) {
  const View& x = inputs[0];
  x_dims_ = {planner.batch(), in_[0], in_[1], in_[2]};
  y_dims_ = {planner.batch(), out_[0], out_[1], out_[2]};
  NORMLAB_ASSIGN_OR_RETURN(
      Op * op,
      planner.Adopt(name(), "forward",
                    MakeConvolutionForward(planner.runtime(), geometry_, Layout::Any(x_dims_),
                                           Layout::Any(weight_dims_), Layout::Any(y_dims_), bias_,
                                           planner.training())));
  NORMLAB_ASSIGN_OR_RETURN(x_, planner.Convert(name(), x, op->layout(Arg::kSource), forward_));
  NORMLAB_ASSIGN_OR_RETURN(
      const View w, PlanWeights(planner, name(), parameters_.weight, Layout::RowMajor(weight_dims_),
                                op->layout(Arg::kWeights), refresh_));
  const View y = planner.Reserve(op->layout(Arg::kDestination));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kSource, x_.buffer));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kWeights, w.buffer));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kBias, planner.Borrow(parameters_.bias, out_[0])));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kDestination, y.buffer));
  forward_.push_back(op);
  forward_op_ = op;
  return y;
}

absl::StatusOr<View> Conv2dLayer::PlanBackward(Planner& planner, const View& d_y, bool wants_d_x) {
  NORMLAB_RETURN_IF_ERROR(PlanBackwardWeights(planner, d_y));
  if (!wants_d_x) {
    return View();
  }
  return PlanBackwardData(planner, d_y);
}

absl::Status Conv2dLayer::PlanBackwardWeights(Planner& planner, const View& d_y) {
  NORMLAB_ASSIGN_OR_RETURN(
      Op * op,
      planner.Adopt(name(), "backward_weights",
                    MakeConvolutionBackwardWeights(planner.runtime(), geometry_,
                                                   Layout::Any(x_dims_), Layout::Any(weight_dims_),
                                                   Layout::Any(y_dims_), bias_, *forward_op_)));
  NORMLAB_ASSIGN_OR_RETURN(const View x,
                           planner.Convert(name(), x_, op->layout(Arg::kSource), backward_));
  NORMLAB_ASSIGN_OR_RETURN(
      const View d_out, planner.Convert(name(), d_y, op->layout(Arg::kDiffDestination), backward_));
  OpList after;
  NORMLAB_ASSIGN_OR_RETURN(
      const View d_w,
      PlanWeightGradient(planner, name(), parameters_.d_weight, Layout::RowMajor(weight_dims_),
                         op->layout(Arg::kDiffWeights), after));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kSource, x.buffer));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kDiffDestination, d_out.buffer));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kDiffWeights, d_w.buffer));
  NORMLAB_RETURN_IF_ERROR(
      planner.Bind(*op, Arg::kDiffBias, planner.Borrow(parameters_.d_bias, out_[0])));
  backward_.push_back(op);
  backward_.insert(backward_.end(), after.begin(), after.end());
  return absl::OkStatus();
}

absl::StatusOr<View> Conv2dLayer::PlanBackwardData(Planner& planner, const View& d_y) {
  NORMLAB_ASSIGN_OR_RETURN(
      Op * op, planner.Adopt(name(), "backward_data",
                             MakeConvolutionBackwardData(
                                 planner.runtime(), geometry_, Layout::Any(x_dims_),
                                 Layout::Any(weight_dims_), Layout::Any(y_dims_), *forward_op_)));
  NORMLAB_ASSIGN_OR_RETURN(
      const View d_out, planner.Convert(name(), d_y, op->layout(Arg::kDiffDestination), backward_));
  NORMLAB_ASSIGN_OR_RETURN(
      const View w, PlanWeights(planner, name(), parameters_.weight, Layout::RowMajor(weight_dims_),
                                op->layout(Arg::kWeights), refresh_));
  const View d_x = planner.Reserve(op->layout(Arg::kDiffSource));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kDiffDestination, d_out.buffer));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kWeights, w.buffer));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kDiffSource, d_x.buffer));
  backward_.push_back(op);
  return d_x;
}

}  // namespace normlab::engine
