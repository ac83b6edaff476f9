#include "engine/layers/normalization/row_normalizer_layer.h"

#include "common/status_macros.h"
#include "engine/layers/normalization/layer_support.h"

namespace normlab::engine {
namespace {

constexpr char kImplementation[] = "normlab:rows";

}  // namespace

RowNormalizerLayer::RowNormalizerLayer(const Node& node,
                                       const NormalizerFormula& formula,
                                       int64_t groups,
                                       std::optional<ActivationKind> fusible,
                                       const LayerParameters& parameters)
    : Layer(node.name),
      options_{.formula = formula, .groups = groups, .relu = fusible == ActivationKind::kRelu},
      columns_(node.in[0]),
      parameters_(parameters) {}

absl::StatusOr<View> RowNormalizerLayer::PlanForward(Planner& planner,
                                                     absl::Span<const View> inputs) {
  run_ = &planner.run();
  NORMLAB_ASSIGN_OR_RETURN(
      x_,
      planner.Convert(name(), inputs[0], Layout::RowMajor({planner.batch(), columns_}), forward_));
  normalizer_ =
      std::make_unique<RowNormalizer>(planner.batch(), columns_, options_, TensorsOf(parameters_));
  forward_scratch_ = planner.Reserve(normalizer_->scratch_bytes());
  y_ = planner.Reserve(x_.layout);
  y_.nan_checked = true;
  planner.Record(name(), "forward", kImplementation);
  return y_;
}

absl::StatusOr<View> RowNormalizerLayer::PlanBackward(Planner& planner,
                                                      const View& d_y,
                                                      bool /*wants_d_x*/) {
  NORMLAB_ASSIGN_OR_RETURN(d_y_, planner.Convert(name(), d_y, x_.layout, backward_));
  planner.Use(x_);
  backward_scratch_ = planner.Reserve(normalizer_->scratch_bytes());
  d_x_ = planner.Reserve(x_.layout);
  planner.Record(name(), "backward", kImplementation);
  return d_x_;
}

void RowNormalizerLayer::Forward() {
  RunAll(forward_);
  normalizer_->Forward(x_.floats(), y_.floats(), forward_scratch_->data);
  ReportIfNotFinite(normalizer_->statistics(), *run_);
}

void RowNormalizerLayer::Backward() {
  RunAll(backward_);
  normalizer_->Backward(x_.floats(), d_y_.floats(), d_x_.floats(), backward_scratch_->data);
}

}  // namespace normlab::engine
