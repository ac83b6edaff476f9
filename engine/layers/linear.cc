#include "engine/layers/linear.h"

#include "common/status_macros.h"
#include "engine/dnnl/primitives.h"

namespace normlab::engine {

LinearLayer::LinearLayer(const Node& node,
                         const LinearNode& linear,
                         const LayerParameters& parameters)
    : Layer(node.name),
      in_(ElementCount(node.in)),
      out_(linear.out),
      bias_(linear.bias),
      parameters_(parameters),
      weights_(node.name, linear.weights, {out_, in_}, out_, parameters) {}

Layout LinearLayer::WeightLayout(const Planner& planner) const {
  const bool plain = planner.training() && type_ == DataType::kF32;
  return plain ? Layout::RowMajor({out_, in_}) : Layout::Any({out_, in_}, type_);
}

absl::StatusOr<View> LinearLayer::PlanForward(Planner& planner, absl::Span<const View> inputs) {
  type_ = planner.options().type;
  NORMLAB_ASSIGN_OR_RETURN(
      x_, planner.Convert(name(), inputs[0], Layout::RowMajor({planner.batch(), in_}, type_),
                          forward_));
  weights_.Plan(planner);
  y_ = planner.Reserve(Layout::RowMajor({planner.batch(), out_}, type_));
  NORMLAB_ASSIGN_OR_RETURN(
      Op * op,
      planner.Adopt(name(), "forward",
                    MakeInnerProductForward(planner.runtime(), x_.layout, WeightLayout(planner),
                                            y_.layout, bias_, planner.training())));
  NORMLAB_ASSIGN_OR_RETURN(const View w, weights_.For(planner, op->layout(Arg::kWeights)));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kSource, x_.buffer));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kWeights, w.buffer));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kBias, planner.Borrow(parameters_.bias, out_)));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kDestination, y_.buffer));
  forward_.push_back(op);
  forward_op_ = op;
  return y_;
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
  NORMLAB_ASSIGN_OR_RETURN(const View d_w,
                           weights_.GradientFor(planner, weights->layout(Arg::kDiffWeights)));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*weights, Arg::kSource, x_.buffer));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*weights, Arg::kDiffDestination, d_out.buffer));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*weights, Arg::kDiffWeights, d_w.buffer));
  NORMLAB_RETURN_IF_ERROR(
      planner.Bind(*weights, Arg::kDiffBias, planner.Borrow(parameters_.d_bias, out_)));
  backward_.push_back(weights);
  if (!wants_d_x) {
    return View();
  }

  const View d_x = planner.Reserve(x_.layout);
  NORMLAB_ASSIGN_OR_RETURN(
      Op * data, planner.Adopt(name(), "backward_data",
                               MakeInnerProductBackwardData(planner.runtime(), d_x.layout,
                                                            WeightLayout(planner), d_out.layout,
                                                            *forward_op_)));
  NORMLAB_ASSIGN_OR_RETURN(const View w, weights_.For(planner, data->layout(Arg::kWeights)));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*data, Arg::kDiffDestination, d_out.buffer));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*data, Arg::kWeights, w.buffer));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*data, Arg::kDiffSource, d_x.buffer));
  backward_.push_back(data);
  return d_x;
}

}  // namespace normlab::engine
