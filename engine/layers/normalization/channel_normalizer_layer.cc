#include "engine/layers/normalization/channel_normalizer_layer.h"

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "engine/layers/normalization/layer_support.h"

namespace normlab::engine {
namespace {

constexpr char kImplementation[] = "normlab:channels";

}  // namespace

ChannelNormalizerLayer::ChannelNormalizerLayer(const Node& node,
                                               const ChannelNormalization& norm,
                                               std::optional<ActivationKind> fusible,
                                               const LayerParameters& parameters)
    : Layer(node.name),
      norm_(norm),
      channels_(node.in[0]),
      area_(ElementCount(node.in) / node.in[0]),
      fuse_relu_(fusible == ActivationKind::kRelu && !norm.threshold &&
                 GradientOfScale(norm.formula.scale) != ScaleGradient::kSign),
      parameters_(parameters) {}

ChannelNormalizerOptions ChannelNormalizerLayer::OptionsFor(const Planner& planner) const {
  ChannelNormalizerOptions options;
  options.formula = norm_.formula;
  if (norm_.sets == ChannelNormalization::Sets::kBatch) {
    options.given_statistics = norm_.frozen || !planner.training();
    // With given statistics the sets have no meaning: one is the least work.
    options.examples_per_set =
        options.given_statistics ? planner.batch() : norm_.ghost_size.value_or(planner.batch());
    if (planner.synchronized() && !options.given_statistics) {
      options.ranks = planner.options().statistics;
    }
  } else {
    options.channels_per_set = channels_ / norm_.groups;
  }
  options.running_update_rate = norm_.running_update_rate;
  options.renorm = options.given_statistics ? std::nullopt : norm_.renorm;
  options.floor = norm_.threshold ? OutputFloor::kTau
                  : fuse_relu_    ? OutputFloor::kZero
                                  : OutputFloor::kNone;
  return options;
}

absl::Status ChannelNormalizerLayer::CheckSets(const Planner& planner) const {
  if (options_.given_statistics || norm_.one_value_is_fine) {
    return absl::OkStatus();
  }
  if (options_.ranks != nullptr) {
    return norm_.ghost_size.has_value()
               ? absl::InvalidArgumentError(absl::StrCat(
                     "layer ", name(),
                     ": ghost batches are parts of one rank's batch; use statistics of each rank"))
               : absl::OkStatus();  // several ranks have several values
  }
  if (planner.batch() % options_.examples_per_set != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("layer ", name(), ": ghost batches of ", options_.examples_per_set,
                     " examples do not divide a batch of ", planner.batch(),
                     "; use a ghost size that divides it, and drop an incomplete last batch"));
  }
  if (options_.examples_per_set * options_.channels_per_set * area_ > 1) {
    return absl::OkStatus();
  }
  if (norm_.sets == ChannelNormalization::Sets::kBatch) {
    return absl::InvalidArgumentError(absl::StrCat(
        "layer ", name(), ": cannot train on one value per channel (",
        norm_.ghost_size.has_value() ? "ghost batches" : "batch", " of ", options_.examples_per_set,
        ", ", area_, " value per example); use at least 2, or drop an incomplete last batch"));
  }
  return OneValueError(name(), "a normalizer of groups",
                       absl::StrCat(norm_.groups, " groups of ", channels_, " channels, ", area_,
                                    " value each; use fewer groups, or layer norm"));
}

absl::StatusOr<View> ChannelNormalizerLayer::PlanForward(Planner& planner,
                                                         absl::Span<const View> inputs) {
  run_ = &planner.run();
  options_ = OptionsFor(planner);
  NORMLAB_RETURN_IF_ERROR(CheckSets(planner));
  NORMLAB_ASSIGN_OR_RETURN(
      x_, planner.Convert(name(), inputs[0], KernelLayout(inputs[0].layout), forward_));
  normalizer_ = std::make_unique<ChannelNormalizer>(*x_.layout.channel_blocking(), options_,
                                                    TensorsOf(parameters_));
  forward_scratch_ = planner.Reserve(normalizer_->forward_scratch_bytes());
  y_ = planner.Reserve(x_.layout);
  y_.nan_checked = x_.nan_checked || !options_.given_statistics;
  planner.Record(name(), "forward", kImplementation);
  return y_;
}

absl::StatusOr<View> ChannelNormalizerLayer::PlanBackward(Planner& planner,
                                                          const View& d_y,
                                                          bool /*wants_d_x*/) {
  NORMLAB_ASSIGN_OR_RETURN(d_y_, planner.Convert(name(), d_y, x_.layout, backward_));
  planner.Use(x_);
  backward_scratch_ = planner.Reserve(normalizer_->backward_scratch_bytes());
  d_x_ = planner.Reserve(x_.layout);
  planner.Record(name(), "backward", kImplementation);
  return d_x_;
}

void ChannelNormalizerLayer::Forward() {
  RunAll(forward_);
  normalizer_->Forward(x_.floats(), y_.floats(), forward_scratch_->data,
                       run_->update_running_statistics);
  if (!options_.given_statistics) {
    ReportIfNotFinite(normalizer_->statistics(), *run_);
  }
}

void ChannelNormalizerLayer::Backward() {
  RunAll(backward_);
  normalizer_->Backward(x_.floats(), d_y_.floats(), d_x_.floats(), backward_scratch_->data);
}

}  // namespace normlab::engine
