#include "engine/layers/linear.h"

#include "common/status_macros.h"
#include "engine/dnnl/primitives.h"
#include "engine/layers/weights.h"

namespace normlab::engine {

LinearLayer::LinearLayer(const Node& node,
                         const LinearNode& linear,
                         const LayerParameters& parameters)
    : Layer(node.name),
      in_(ElementCount(node.in)),
      out_(linear.out),
      bias_(linear.bias),
      parameters_(parameters) {}

Layout LinearLayer::WeightLayout(const Planner& planner) const {
  const bool plain = planner.training() && type_ == DataType::kF32;
  return plain ? Layout::RowMajor({out_, in_}) : Layout::Any({out_, in_}, type_);
}

absl::StatusOr<View> LinearLayer::PlanForward(Planner& planner, absl::Span<const View> inputs) {
  type_ = planner.options().type;
  NORMLAB_ASSIGN_OR_RETURN(
      x_, planner.Convert(name(), inputs[0], Layout::RowMajor({planner.batch(), in_}, type_),
                          forward_));
  const Layout plain_w = Layout::RowMajor({out_, in_});
  const View y = planner.Reserve(Layout::RowMajor({planner.batch(), out_}, type_));
  NORMLAB_ASSIGN_OR_RETURN(
      Op * op,
      planner.Adopt(name(), "forward",
                    MakeInnerProductForward(planner.runtime(), x_.layout, WeightLayout(planner),
                                            y.layout, bias_, planner.training())));
  NORMLAB_ASSIGN_OR_RETURN(const View w, PlanWeights(planner, name(), parameters_.weight, plain_w,
                                                     op->layout(Arg::kWeights), refresh_));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kSource, x_.buffer));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kWeights, w.buffer));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kBias, planner.Borrow(parameters_.bias, out_)));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kDestination, y.buffer));
  forward_.push_back(op);
  forward_op_ = op;
  return y;
}

absl::StatusOr<View> LinearLayer::PlanBackward(Planner& planner, const View& d_y, bool wants_d_x) {
  const Layout plain_w = Layout::RowMajor({out_, in_});
  NORMLAB_ASSIGN_OR_RETURN(
      const View d_out,
      planner.Convert(name(), d_y, Layout::RowMajor({planner.batch(), out_}, type_), backward_));
  NORMLAB_ASSIGN_OR_RETURN(Op * weights, planner.Adopt(name(), "backward_weights",
                                                       MakeInnerProductBackwardWeights(
                                                           planner.runtime(), x_.layout, plain_w,
                                                           d_out.layout, bias_, *forward_op_)));
  OpList after;
  NORMLAB_ASSIGN_OR_RETURN(const View d_w,
                           PlanWeightGradient(planner, name(), parameters_.d_weight, plain_w,
                                              weights->layout(Arg::kDiffWeights), after));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*weights, Arg::kSource, x_.buffer));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*weights, Arg::kDiffDestination, d_out.buffer));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*weights, Arg::kDiffWeights, d_w.buffer));
  NORMLAB_RETURN_IF_ERROR(
      planner.Bind(*weights, Arg::kDiffBias, planner.Borrow(parameters_.d_bias, out_)));
  backward_.push_back(weights);
  backward_.insert(backward_.end(), after.begin(), after.end());
  if (!wants_d_x) {
    return View();
  }

  const View d_x = planner.Reserve(x_.layout);
  NORMLAB_ASSIGN_OR_RETURN(
      Op * data, planner.Adopt(name(), "backward_data",
                               MakeInnerProductBackwardData(planner.runtime(), d_x.layout,
                                                            WeightLayout(planner), d_out.layout,
                                                            *forward_op_)));
  NORMLAB_ASSIGN_OR_RETURN(const View w, PlanWeights(planner, name(), parameters_.weight, plain_w,
                                                     data->layout(Arg::kWeights), refresh_));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*data, Arg::kDiffDestination, d_out.buffer));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*data, Arg::kWeights, w.buffer));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*data, Arg::kDiffSource, d_x.buffer));
  backward_.push_back(data);
  return d_x;
}

}  // namespace normlab::engine
