#include "engine/worker/normalize_command.h"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/types/span.h"

#include "engine/layers/observed_statistics.h"
#include "engine/layers/single_layer.h"
#include "engine/models/normalizer_node.h"
#include "engine/spec/validate_normalize.h"
#include "engine/worker/normalize_inference.h"
#include "engine/worker/normalize_tensors.h"
#include "engine/worker/normalize_weights.h"

namespace normlab::engine {
namespace {

// Also names the streams of random numbers.
constexpr char kLayerName[] = "normalizer";

// "weight" of "normalizer.weight".
std::string OwnName(const ParameterSpec& tensor) {
  return tensor.name.substr(sizeof(kLayerName));
}

// Puts what the request gives into the layer's tensors; violations for what it has not.
void TakeParameters(const v1::NormalizeRequest& request,
                    SingleLayer& layer,
                    v1::NormalizeResult& result) {
  const std::string kind = NormalizerName(request.normalizer());
  std::map<std::string, const ParameterSpec*> tensors;
  for (const auto* specs : {&layer.parameters(), &layer.state()}) {
    for (const ParameterSpec& spec : *specs) {
      tensors[OwnName(spec)] = &spec;
    }
  }
  // In the order of names; that of a protobuf map is random.
  std::map<std::string, const v1::Tensor*> given;
  for (const auto& [name, tensor] : request.parameters()) {
    given[name] = &tensor;
  }
  for (const auto& [name, tensor] : given) {
    const auto found = tensors.find(name);
    if (found == tensors.end()) {
      const std::string known = absl::StrJoin(
          tensors, ", ", [](std::string* out, const auto& entry) { out->append(entry.first); });
      FailUnknown(name, kind, known, result);
    } else if (CheckShape(name, *tensor, found->second->dims, kind, result)) {
      Take(*tensor, layer.values(*found->second));
    }
  }
}

// What computes the gradient in evaluation mode: the same function of the input, planned for
// training. Statistics of the batch give way to running ones that are constants; sets within an
// example are treated as in training. Empty: no layer does.
struct InferenceGradient {
  using Layer = std::optional<NodeKind>;

  Layer operator()(const BatchNormNode& node) const { return FrozenBatchNormNode{node}; }
  Layer operator()(const NoisyBatchNormNode& node) const {
    // The noise is for training only.
    return node.normalize ? NodeKind(FrozenBatchNormNode{node.batch})
                          : NodeKind(ActivationNode{ActivationKind::kIdentity});
  }
  Layer operator()(const BatchRenormNode& node) const { return FrozenBatchNormNode{node.batch}; }
  Layer operator()(const GhostBatchNormNode& node) const { return FrozenBatchNormNode{node.batch}; }
  Layer operator()(const LpBatchNormNode&) const { return std::nullopt; }
  Layer operator()(const MeanOnlyBatchNormNode&) const { return std::nullopt; }
  template <typename Other>
  Layer operator()(const Other& node) const {
    return node;
  }
};

// Of the kinds for which no layer computes it.
NormalizerFormula FormulaOf(const NodeKind& kind) {
  const auto* lp = std::get_if<LpBatchNormNode>(&kind);
  if (lp == nullptr) {
    return {.scale = ScaleKind::kOne};  // mean-only
  }
  switch (lp->power) {
    case LpBatchNormNode::Power::kOne:
      return {.scale = ScaleKind::kMeanAbsolute, .epsilon = lp->batch.epsilon};
    case LpBatchNormNode::Power::kTwo:
      return {.scale = ScaleKind::kRootMeanSquare, .epsilon = lp->batch.epsilon};
    case LpBatchNormNode::Power::kInfinity:
      break;
  }
  return {.scale = ScaleKind::kMaximumAbsolute, .epsilon = lp->batch.epsilon};
}

// Whether training takes statistics of the batch and evaluation does not.
bool HasBatchStatistics(const NodeKind& kind) {
  return std::holds_alternative<BatchNormNode>(kind) ||
         std::holds_alternative<NoisyBatchNormNode>(kind) ||
         std::holds_alternative<BatchRenormNode>(kind) ||
         std::holds_alternative<GhostBatchNormNode>(kind) ||
         std::holds_alternative<LpBatchNormNode>(kind) ||
         std::holds_alternative<MeanOnlyBatchNormNode>(kind);
}

// "forward normlab:columns, backward normlab:columns"
std::string Implementations(const SingleLayer& layer) {
  return absl::StrJoin(layer.implementations(), ", ", [](std::string* out, const auto& choice) {
    absl::StrAppend(out, choice.pass, " ", choice.implementation);
  });
}

// One request on a layer.
class LayerCall {
 public:
  LayerCall(const v1::NormalizeRequest& request, NodeKind kind)
      : request_(request),
        kind_(std::move(kind)),
        batch_(request.input().dims(0)),
        in_(request.input().dims().begin() + 1, request.input().dims().end()),
        inference_(request.statistics() == v1::Statistics::INFERENCE),
        kind_field_(absl::StrCat("normalizer.", NormalizerName(request.normalizer()))) {}

  v1::NormalizeResult Run() {
    std::unique_ptr<SingleLayer> layer = Plan();
    if (layer == nullptr) {
      return std::move(result_);
    }
    TakeParameters(request_, *layer, result_);
    if (result_.violations_size() > 0) {
      return std::move(result_);
    }
    v1::NormalizeResponse& response = *result_.mutable_response();
    Take(request_.input(), layer->input());
    layer->Forward();
    Put(request_.input().dims(), layer->output(), *response.mutable_output());
    if (layer_backward_) {
      Take(request_.output_gradient(), layer->output_gradient());
      layer->Backward();
      Put(request_.input().dims(), layer->input_gradient(), *response.mutable_input_gradient());
      for (const ParameterSpec& spec : layer->parameters()) {
        Put(spec.dims, layer->gradient(spec),
            (*response.mutable_parameter_gradients())[OwnName(spec)]);
      }
    } else if (request_.has_output_gradient()) {
      PutGivenGradient(*layer, response);
    }
    PutStatistics(*layer, response);
    response.set_implementation(Implementations(*layer));
    return std::move(result_);
  }

 private:
  // Null: result_ says why.
  std::unique_ptr<SingleLayer> Plan() {
    NodeKind planned = kind_;
    layer_backward_ = request_.has_output_gradient();
    if (inference_ && layer_backward_) {
      const std::optional<NodeKind> kind = std::visit(InferenceGradient(), kind_);
      layer_backward_ = kind.has_value();
      planned = kind.value_or(kind_);
    }
    // A setting that does not fit the shape is the normalizer's fault; what then cannot be planned
    // is the batch's.
    if (const absl::Status fits = Graph(in_).Add(kLayerName, planned); !fits.ok()) {
      Fail(result_, kind_field_, WithoutLayer(fits));
      return nullptr;
    }
    absl::StatusOr<std::unique_ptr<SingleLayer>> layer = SingleLayer::Plan(
        kLayerName, std::move(planned), in_,
        {.batch = batch_,
         .mode = inference_ && !layer_backward_ ? Mode::kEvaluation : Mode::kTraining,
         .backward = layer_backward_,
         .seed = request_.seed(),
         .step = request_.step()});
    if (layer.ok()) {
      return *std::move(layer);
    }
    switch (layer.status().code()) {
      case absl::StatusCode::kInvalidArgument:
        Fail(result_, "input.dims", WithoutLayer(layer.status()));
        break;
      case absl::StatusCode::kUnimplemented:
        Fail(result_, kind_field_,
             "cannot be computed by this version of the engine; use another kind, or a newer "
             "server");
        break;
      default:
        result_.set_failure(WithoutLayer(layer.status()));
    }
    return nullptr;
  }

  static std::string WithoutLayer(const absl::Status& status) {
    absl::string_view message = status.message();
    absl::ConsumePrefix(&message, absl::StrCat("layer ", kLayerName, ": "));
    return std::string(message);
  }

  void PutGivenGradient(SingleLayer& layer, v1::NormalizeResponse& response) const {
    GivenStatistics given;
    for (const ParameterSpec& spec : layer.state()) {
      (spec.role == ParameterRole::kRunningMean ? given.mean : given.var) = layer.values(spec);
    }
    for (const ParameterSpec& spec : layer.parameters()) {
      if (spec.role == ParameterRole::kGamma) {
        given.gamma = layer.values(spec);
      }
    }
    const ChannelGradients gradients = GradientOfGivenStatistics(
        FormulaOf(kind_), {batch_, in_.front(), ElementCount(in_) / in_.front()}, given,
        ValuesOf(request_.input()), ValuesOf(request_.output_gradient()));
    Put(request_.input().dims(), absl::MakeConstSpan(gradients.d_x),
        *response.mutable_input_gradient());
    for (const ParameterSpec& spec : layer.parameters()) {
      Put(spec.dims,
          absl::MakeConstSpan(spec.role == ParameterRole::kGamma ? gradients.d_gamma
                                                                 : gradients.d_beta),
          (*response.mutable_parameter_gradients())[OwnName(spec)]);
    }
  }

  void PutStatistics(SingleLayer& layer, v1::NormalizeResponse& response) const {
    auto& statistics = *response.mutable_statistics();
    for (const ParameterSpec& spec : layer.state()) {
      Put(spec.dims, layer.values(spec), statistics[OwnName(spec)]);
    }
    if (inference_ && HasBatchStatistics(kind_)) {
      return;
    }
    for (const ObservedStatistic& observed :
         ObserveStatistics(kind_, in_, batch_, ValuesOf(request_.input()))) {
      Put(observed.dims, absl::MakeConstSpan(observed.values), statistics[observed.name]);
    }
  }

  const v1::NormalizeRequest& request_;
  const NodeKind kind_;
  const int64_t batch_;
  const Dims in_;
  const bool inference_;
  const std::string kind_field_;
  bool layer_backward_ = false;  // whether the layer computes the gradients
  v1::NormalizeResult result_;
};

// `none`: the identity.
v1::NormalizeResult Identity(const v1::NormalizeRequest& request) {
  v1::NormalizeResult result;
  for (const auto& [name, tensor] : request.parameters()) {
    FailUnknown(name, "none", "", result);
  }
  if (result.violations_size() > 0) {
    return result;
  }
  v1::NormalizeResponse& response = *result.mutable_response();
  *response.mutable_output() = request.input();
  if (request.has_output_gradient()) {
    *response.mutable_input_gradient() = request.output_gradient();
  }
  response.set_implementation("copy");
  return result;
}

}  // namespace

v1::NormalizeResult Normalize(const v1::NormalizeRequest& request) {
  v1::NormalizeResult result;
  if (const std::string too_large = FindTooLargeTensor(request); !too_large.empty()) {
    Fail(result, too_large, absl::StrCat("has more than ", kMaxTensorValues, " values"));
    return result;
  }
  for (const Violation& violation : ValidateNormalize(request)) {
    Fail(result, violation.field, violation.description);
  }
  if (result.violations_size() > 0) {
    return result;
  }
  const std::string kind_field = absl::StrCat("normalizer.", NormalizerName(request.normalizer()));
  absl::StatusOr<LoneNormalizer> made = MakeLoneNormalizer(
      request.normalizer(), Dims(request.input().dims().begin() + 1, request.input().dims().end()),
      request.input().dims(0), request.statistics() != v1::Statistics::INFERENCE);
  if (!made.ok()) {
    Fail(result, kind_field, std::string(made.status().message()));
    return result;
  }
  if (made->transform != WeightTransform::kNone) {
    return NormalizeWeights(request, made->transform);
  }
  if (!made->node.has_value()) {
    return Identity(request);
  }
  return LayerCall(request, *std::move(made->node)).Run();
}

}  // namespace normlab::engine
