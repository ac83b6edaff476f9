#include "engine/layers/normalization/dnnl_group_norm.h"

#include "common/status_macros.h"
#include "engine/layers/nan_check.h"

namespace normlab::engine {
namespace {

Dims WithBatch(int64_t batch, const Dims& dims) {
  Dims all = {batch};
  all.insert(all.end(), dims.begin(), dims.end());
  return all;
}

int64_t FloatBytes(int64_t count) {
  return count * static_cast<int64_t>(sizeof(float));
}

}  // namespace

DnnlLayerNorm::DnnlLayerNorm(const Node& node,
                             const GroupNormNode& norm,
                             const LayerParameters& parameters)
    : Layer(node.name),
      options_{.epsilon = static_cast<float>(norm.epsilon), .affine = norm.affine},
      columns_(node.in[0]),
      parameters_(parameters) {}

absl::Status DnnlLayerNorm::BindCommon(Planner& planner, Op& op) const {
  NORMLAB_RETURN_IF_ERROR(planner.Bind(op, Arg::kSource, x_.buffer));
  NORMLAB_RETURN_IF_ERROR(
      planner.Bind(op, Arg::kScale, planner.Borrow(parameters_.gamma, columns_)));
  NORMLAB_RETURN_IF_ERROR(
      planner.Bind(op, Arg::kShift, planner.Borrow(parameters_.beta, columns_)));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(op, Arg::kMean, mean_));
  return planner.Bind(op, Arg::kVariance, var_);
}

absl::StatusOr<View> DnnlLayerNorm::PlanForward(Planner& planner, absl::Span<const View> inputs) {
  run_ = &planner.run();
  NORMLAB_ASSIGN_OR_RETURN(
      x_,
      planner.Convert(name(), inputs[0], Layout::RowMajor({planner.batch(), columns_}), forward_));
  NORMLAB_ASSIGN_OR_RETURN(
      Op * op, planner.Adopt(name(), "forward",
                             MakeLayerNormForward(planner.runtime(), options_, x_.layout,
                                                  /*training=*/true)));
  mean_ = planner.Reserve(FloatBytes(planner.batch()));
  var_ = planner.Reserve(FloatBytes(planner.batch()));
  View y = planner.Reserve(x_.layout);
  y.nan_checked = true;
  NORMLAB_RETURN_IF_ERROR(BindCommon(planner, *op));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kDestination, y.buffer));
  forward_.push_back(op);
  forward_op_ = op;
  return y;
}

absl::StatusOr<View> DnnlLayerNorm::PlanBackward(Planner& planner,
                                                 const View& d_y,
                                                 bool /*wants_d_x*/) {
  NORMLAB_ASSIGN_OR_RETURN(const View d_out, planner.Convert(name(), d_y, x_.layout, backward_));
  const View d_x = planner.Reserve(x_.layout);
  NORMLAB_ASSIGN_OR_RETURN(Op * op, planner.Adopt(name(), "backward",
                                                  MakeLayerNormBackward(planner.runtime(), options_,
                                                                        x_.layout, *forward_op_)));
  NORMLAB_RETURN_IF_ERROR(BindCommon(planner, *op));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kDiffDestination, d_out.buffer));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kDiffSource, d_x.buffer));
  NORMLAB_RETURN_IF_ERROR(
      planner.Bind(*op, Arg::kDiffScale, planner.Borrow(parameters_.d_gamma, columns_)));
  NORMLAB_RETURN_IF_ERROR(
      planner.Bind(*op, Arg::kDiffShift, planner.Borrow(parameters_.d_beta, columns_)));
  backward_.push_back(op);
  return d_x;
}

void DnnlLayerNorm::Forward() {
  RunAll(forward_);
  // A row with anything that is not finite has variance NaN.
  if (HasNan(x_.layout.dims()[0], var_->floats())) {
    run_->saw_nan = true;
  }
}

DnnlGroupNorm::DnnlGroupNorm(const Node& node,
                             const GroupNormNode& norm,
                             const LayerParameters& parameters)
    : Layer(node.name),
      node_(node),
      options_{.epsilon = static_cast<float>(norm.epsilon), .affine = false},
      groups_(norm.groups),
      parameters_(parameters),
      zeros_(static_cast<size_t>(node.in[0])) {}

ChannelBlocking DnnlGroupNorm::AffineBlocking(int64_t batch) const {
  const int64_t channels = node_.in[0];
  const int64_t area = ElementCount(node_.in) / channels;
  // Dense features are the columns of one tall image.
  return area == 1 ? ChannelBlocking{1, channels, batch, channels}
                   : ChannelBlocking{batch, channels, area, 1};
}

absl::StatusOr<View> DnnlGroupNorm::PlanForward(Planner& planner, absl::Span<const View> inputs) {
  run_ = &planner.run();
  const int64_t sets = planner.batch() * groups_;
  const int64_t width = node_.in.size() == 3 ? node_.in[2] : 1;
  view_layout_ = Layout::RowMajor({1, sets, ElementCount(node_.in) / groups_ / width, width});
  blocking_ = AffineBlocking(planner.batch());
  NORMLAB_ASSIGN_OR_RETURN(
      x_, planner.Convert(name(), inputs[0], Layout::RowMajor(WithBatch(planner.batch(), node_.in)),
                          forward_));
  NORMLAB_ASSIGN_OR_RETURN(
      Op * op, planner.Adopt(name(), "forward",
                             MakeBatchNormForward(planner.runtime(), options_, view_layout_)));
  mean_ = planner.Reserve(FloatBytes(sets));
  var_ = planner.Reserve(FloatBytes(sets));
  normalized_ = planner.Reserve(x_.layout);
  y_ = parameters_.gamma == nullptr ? normalized_ : planner.Reserve(x_.layout);
  y_.nan_checked = true;
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kSource, x_.buffer));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kMean, mean_));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kVariance, var_));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kDestination, normalized_.buffer));
  forward_.push_back(op);
  forward_op_ = op;
  return y_;
}

absl::StatusOr<View> DnnlGroupNorm::PlanBackward(Planner& planner,
                                                 const View& d_y,
                                                 bool /*wants_d_x*/) {
  NORMLAB_ASSIGN_OR_RETURN(d_y_, planner.Convert(name(), d_y, x_.layout, convert_d_y_));
  d_normalized_ = d_y_;
  if (parameters_.gamma != nullptr) {
    planner.Use(normalized_);
    d_normalized_ = planner.Reserve(x_.layout);
    sums_ = planner.Reserve(2 * blocking_.batch * blocking_.channels *
                            static_cast<int64_t>(sizeof(double)));
  }
  const View d_x = planner.Reserve(x_.layout);
  NORMLAB_ASSIGN_OR_RETURN(
      Op * op, planner.Adopt(
                   name(), "backward",
                   MakeBatchNormBackward(planner.runtime(), options_, view_layout_, *forward_op_)));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kSource, x_.buffer));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kMean, mean_));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kVariance, var_));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kDiffDestination, d_normalized_.buffer));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kDiffSource, d_x.buffer));
  backward_.push_back(op);
  return d_x;
}

void DnnlGroupNorm::Forward() {
  RunAll(forward_);
  // A group with anything that is not finite has variance NaN.
  if (HasNan(view_layout_.dims()[1], var_->floats())) {
    run_->saw_nan = true;
  }
  if (parameters_.gamma != nullptr) {
    ApplyAffine(blocking_,
                {zeros_.data(), parameters_.gamma, parameters_.beta, blocking_.batch, nullptr},
                normalized_.floats(), y_.floats());
  }
}

void DnnlGroupNorm::Backward() {
  RunAll(convert_d_y_);
  if (parameters_.gamma != nullptr) {
    auto* sum_g = reinterpret_cast<double*>(sums_->data);
    double* sum_gx = sum_g + blocking_.batch * blocking_.channels;
    const ChannelAffine scale = {zeros_.data(), parameters_.gamma, zeros_.data(), blocking_.batch,
                                 nullptr};
    SumGradients(blocking_, scale, normalized_.floats(), d_y_.floats(), {sum_g, sum_gx, nullptr});
    SumOverExamples(blocking_, sum_gx, parameters_.d_gamma);
    SumOverExamples(blocking_, sum_g, parameters_.d_beta);
    ApplyAffine(blocking_, scale, d_y_.floats(), d_normalized_.floats());
  }
  RunAll(backward_);
}

}  // namespace normlab::engine
