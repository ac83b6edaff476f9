#include "engine/layers/batch_norm.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "engine/layers/elementwise.h"
#include "engine/layers/nan_check.h"
#include "engine/layers/normalization_kernels.h"

namespace normlab::engine {
namespace {

// By oneDNN's primitives; ReLU can be fused. Dense features are described to it as 1x1 images with
// the channels last, for which it has vector kernels; for plain matrices it has not.
class DnnlBatchNorm final : public BatchNormLayer {
 public:
  DnnlBatchNorm(const Node& node,
                const BatchNormNode& norm,
                std::optional<ActivationKind> fusible,
                const LayerParameters& parameters)
      : BatchNormLayer(node, norm, fusible, parameters) {}

  absl::StatusOr<View> PlanBackward(Planner& planner,
                                    const View& d_y,
                                    bool /*wants_d_x*/) override {
    NORMLAB_ASSIGN_OR_RETURN(const View d_out, planner.Convert(name(), d_y, y_.layout, backward_));
    const View d_x = planner.Reserve(y_.layout);
    NORMLAB_ASSIGN_OR_RETURN(
        Op * op, planner.Adopt(name(), "backward",
                               MakeBatchNormBackward(planner.runtime(), options_, inner_layout_,
                                                     *forward_op_)));
    NORMLAB_RETURN_IF_ERROR(BindCommon(planner, *op));
    NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kDiffDestination, d_out.buffer));
    NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kDiffSource, d_x.buffer));
    NORMLAB_RETURN_IF_ERROR(
        planner.Bind(*op, Arg::kDiffScale, planner.Borrow(parameters_.d_gamma, channels_)));
    NORMLAB_RETURN_IF_ERROR(
        planner.Bind(*op, Arg::kDiffShift, planner.Borrow(parameters_.d_beta, channels_)));
    backward_.push_back(op);
    return d_x;
  }

  void Forward() override {
    forward_op_->Run();
    if (training_) {
      UpdateRunning();
    }
    // A channel with anything that is not finite has variance NaN.
    if (training_ ? HasNan(channels_, var_->floats()) : fused_ && !x_.nan_checked && HasNan(x_)) {
      run_->saw_nan = true;
    }
  }

  void Backward() override { RunAll(backward_); }

 protected:
  absl::StatusOr<View> PlanNormalization(Planner& planner, const View& x) override {
    x_ = x;
    inner_layout_ = x.layout.dims().size() == 2
                        ? Layout::ChannelsLast({planner.batch(), channels_, 1, 1}, x.layout.type())
                        : x.layout;
    options_.epsilon = static_cast<float>(norm_.epsilon);
    options_.affine = norm_.affine;
    options_.given_statistics = !planner.training();
    options_.fuse_relu = fusible_ == ActivationKind::kRelu;
    absl::StatusOr<Op> made = MakeBatchNormForward(planner.runtime(), options_, inner_layout_);
    if (options_.fuse_relu && absl::IsUnimplemented(made.status())) {
      options_.fuse_relu = false;
      made = MakeBatchNormForward(planner.runtime(), options_, inner_layout_);
    }
    fused_ = options_.fuse_relu;
    NORMLAB_ASSIGN_OR_RETURN(Op * op, planner.Adopt(name(), "forward", std::move(made)));
    if (op->has(Arg::kWorkspace)) {
      workspace_ = planner.Reserve(op->layout(Arg::kWorkspace).bytes());
    }
    y_ = planner.Reserve(x.layout);
    y_.nan_checked = training_ || fused_ || x.nan_checked;
    y_.overwritable = !fused_;  // the backward pass reads x
    NORMLAB_RETURN_IF_ERROR(BindCommon(planner, *op));
    NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kDestination, y_.buffer));
    forward_op_ = op;
    return y_;
  }

 private:
  // The arguments that both passes have.
  absl::Status BindCommon(Planner& planner, Op& op) const {
    NORMLAB_RETURN_IF_ERROR(planner.Bind(op, Arg::kSource, x_.buffer));
    NORMLAB_RETURN_IF_ERROR(planner.Bind(op, Arg::kMean, mean_));
    NORMLAB_RETURN_IF_ERROR(planner.Bind(op, Arg::kVariance, var_));
    NORMLAB_RETURN_IF_ERROR(
        planner.Bind(op, Arg::kScale, planner.Borrow(parameters_.gamma, channels_)));
    NORMLAB_RETURN_IF_ERROR(
        planner.Bind(op, Arg::kShift, planner.Borrow(parameters_.beta, channels_)));
    return planner.Bind(op, Arg::kWorkspace, workspace_);
  }

  BatchNormOptions options_;
  Layout inner_layout_;  // of x and y, as oneDNN is told
  View x_;
  View y_;
  Buffer* workspace_ = nullptr;
  const Op* forward_op_ = nullptr;
  OpList backward_;
};

// Of plain F32 [N,C] by our own loops, any activation fused: for widths on which oneDNN has no vector
// kernel, and for work smaller than its parallel regions.
class DenseBatchNorm final : public BatchNormLayer {
 public:
  DenseBatchNorm(const Node& node,
                 const BatchNormNode& norm,
                 std::optional<ActivationKind> fusible,
                 const LayerParameters& parameters)
      : BatchNormLayer(node, norm, fusible, parameters) {}

  absl::StatusOr<View> PlanBackward(Planner& planner,
                                    const View& d_y,
                                    bool /*wants_d_x*/) override {
    NORMLAB_ASSIGN_OR_RETURN(d_y_, planner.Convert(name(), d_y, y_.layout, backward_));
    d_x_ = planner.Reserve(x_.layout);
    for (Buffer* read : {x_.buffer, y_.buffer, mean_, var_}) {
      planner.Use(read);
    }
    planner.Record(name(), "backward", kImplementation);
    return d_x_;
  }

  void Forward() override {
    RunAll(forward_);
    const NormalizedMatrix shape = {set_, channels_};
    if (training_) {
      ColumnStatistics(shape, x_.floats(), mean_->floats(), var_->floats());
      UpdateRunning();
    }
    NormalizeColumns(shape, norm_.epsilon, x_.floats(), mean_->floats(), var_->floats(),
                     parameters_.gamma, parameters_.beta, y_.floats());
    if (fused_) {
      ActivationForward(*fusible_, set_ * channels_, y_.floats(), y_.floats());
    }
  }

  void Backward() override {
    RunAll(backward_);
    const float* d_normalized = d_y_.floats();
    if (fused_) {
      ActivationBackward(*fusible_, set_ * channels_, y_.floats(), d_y_.floats(), d_x_.floats());
      d_normalized = d_x_.floats();
    }
    NormalizeColumnsBackward({set_, channels_}, norm_.epsilon, x_.floats(), mean_->floats(),
                             var_->floats(), parameters_.gamma, d_normalized, d_x_.floats(),
                             parameters_.d_gamma, parameters_.d_beta);
  }

 protected:
  absl::StatusOr<View> PlanNormalization(Planner& planner, const View& x) override {
    NORMLAB_ASSIGN_OR_RETURN(
        x_, planner.Convert(name(), x, Layout::RowMajor(x.layout.dims()), forward_));
    set_ = planner.batch();
    y_ = planner.Reserve(x_.layout);
    // The activation's loop has one thread, so on large matrices it is better off with oneDNN.
    fused_ = fusible_.has_value() && !BackwardNeedsInput(*fusible_) &&
             *fusible_ != ActivationKind::kSelu && set_ * channels_ <= kSmallTensorElements;
    planner.Record(name(), "forward", kImplementation);
    return y_;
  }

 private:
  static constexpr char kImplementation[] = "normlab:columns";

  View x_;
  View y_;
  View d_y_;
  View d_x_;
  OpList forward_;
  OpList backward_;
};

// A property of the layer alone, not of the batch size: so all plans of a model compute alike.
bool OneDnnIsFaster(int64_t channels) {
  return channels % 16 == 0 && channels >= 256;
}

// An epsilon of 0 (or one that is 0 as a float) becomes the smallest normal float, which changes no
// variance above 1e-31. oneDNN pads channels to multiples of 16 with zeros, and from their variance,
// 0, it would make 0 * infinity = NaN in the padding of the gradient, which the convolution before
// it spreads to all weights.
BatchNormNode WithPositiveEpsilon(BatchNormNode norm) {
  norm.epsilon = std::max(norm.epsilon, static_cast<double>(std::numeric_limits<float>::min()));
  return norm;
}

}  // namespace

std::unique_ptr<BatchNormLayer> BatchNormLayer::Make(const Node& node,
                                                     const BatchNormNode& norm,
                                                     std::optional<ActivationKind> fusible,
                                                     const LayerParameters& parameters) {
  if (node.in.size() == 1 && !OneDnnIsFaster(node.in[0])) {
    return std::make_unique<DenseBatchNorm>(node, norm, fusible, parameters);
  }
  return std::make_unique<DnnlBatchNorm>(node, norm, fusible, parameters);
}

BatchNormLayer::BatchNormLayer(const Node& node,
                               const BatchNormNode& norm,
                               std::optional<ActivationKind> fusible,
                               const LayerParameters& parameters)
    : Layer(node.name),
      norm_(WithPositiveEpsilon(norm)),
      channels_(node.in[0]),
      area_(ElementCount(node.in) / node.in[0]),
      fusible_(fusible),
      parameters_(parameters) {}

void BatchNormLayer::UpdateRunning() const {
  if (run_->update_running_statistics) {
    UpdateRunningStatistics(channels_, set_, norm_.running_update_rate, mean_->floats(),
                            var_->floats(), parameters_.running_mean, parameters_.running_var);
  }
}

absl::StatusOr<View> BatchNormLayer::PlanForward(Planner& planner, absl::Span<const View> inputs) {
  const View& x = inputs[0];
  training_ = planner.training();
  run_ = &planner.run();
  set_ = planner.batch() * area_;
  if (!training_) {
    mean_ = planner.Borrow(parameters_.running_mean, channels_);
    var_ = planner.Borrow(parameters_.running_var, channels_);
    return PlanNormalization(planner, x);
  }
  if (set_ < 2) {
    return absl::InvalidArgumentError(absl::StrCat(
        "layer ", name(), ": batch norm cannot train on one value per channel (batch of ",
        planner.batch(), ", ", area_,
        " value per example); use a batch of at least 2, or drop an incomplete last batch"));
  }
  const int64_t bytes = channels_ * static_cast<int64_t>(sizeof(float));
  mean_ = planner.Reserve(bytes);
  var_ = planner.Reserve(bytes);
  return PlanNormalization(planner, x);
}

}  // namespace normlab::engine
