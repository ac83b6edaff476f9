#include "engine/layers/table.h"

#include <type_traits>
#include <variant>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "engine/layers/activation.h"
#include "engine/layers/add.h"
#include "engine/layers/batch_norm.h"
#include "engine/layers/conv2d.h"
#include "engine/layers/flatten.h"
#include "engine/layers/global_average_pool.h"
#include "engine/layers/linear.h"
#include "engine/layers/normalization/normalizer_layers.h"
#include "engine/layers/pad.h"
#include "engine/layers/pool.h"
#include "engine/layers/scale.h"
#include "engine/layers/softmax_cross_entropy.h"
#include "engine/layers/squared_error.h"
#include "engine/layers/subsample.h"

namespace normlab::engine {
namespace {

struct Maker {
  const Node& node;
  const Node* next;
  const LayerParameters& parameters;
  bool synchronized = false;

  using Made = std::unique_ptr<Layer>;

  // The activation that follows, when there is one.
  std::optional<ActivationKind> FusibleActivation() const {
    const auto* activation = next == nullptr ? nullptr : std::get_if<ActivationNode>(&next->kind);
    return activation == nullptr ? std::nullopt : std::optional(activation->kind);
  }

  Made operator()(const LinearNode& kind) const {
    return std::make_unique<LinearLayer>(node, kind, parameters);
  }
  Made operator()(const ConvNode& kind) const {
    return std::make_unique<Conv2dLayer>(node, kind, parameters);
  }
  Made operator()(const BatchNormNode& kind) const {
    if (synchronized) {
      return Normalizer(kind);
    }
    return BatchNormLayer::Make(node, kind, FusibleActivation(), parameters);
  }
  Made operator()(const NoisyBatchNormNode& kind) const { return Normalizer(kind); }
  Made operator()(const GroupNormNode& kind) const { return Normalizer(kind); }
  Made operator()(const RmsNormNode& kind) const { return Normalizer(kind); }
  Made operator()(const BatchRenormNode& kind) const { return Normalizer(kind); }
  Made operator()(const GhostBatchNormNode& kind) const { return Normalizer(kind); }
  Made operator()(const LpBatchNormNode& kind) const { return Normalizer(kind); }
  Made operator()(const FilterResponseNode& kind) const { return Normalizer(kind); }
  Made operator()(const DynamicTanhNode& kind) const { return Normalizer(kind); }
  Made operator()(const MeanOnlyBatchNormNode& kind) const { return Normalizer(kind); }
  Made operator()(const FrozenBatchNormNode& kind) const { return Normalizer(kind); }
  template <typename Kind>
  Made Normalizer(const Kind& kind) const {
    return MakeNormalizerLayer(node, kind, FusibleActivation(), parameters);
  }
  Made operator()(const ActivationNode& kind) const {
    return std::make_unique<ActivationLayer>(node, kind);
  }
  Made operator()(const PoolNode& kind) const { return std::make_unique<PoolLayer>(node, kind); }
  Made operator()(const GlobalAveragePoolNode&) const {
    return std::make_unique<GlobalAveragePoolLayer>(node);
  }
  Made operator()(const PadNode&) const { return std::make_unique<PadLayer>(node); }
  Made operator()(const SubsampleNode& kind) const {
    return std::make_unique<SubsampleLayer>(node, kind);
  }
  Made operator()(const ScaleNode&) const { return std::make_unique<ScaleLayer>(node, parameters); }
  Made operator()(const ScalarBiasNode&) const {
    return std::make_unique<ScalarBiasLayer>(node, parameters);
  }
  Made operator()(const FlattenNode&) const { return std::make_unique<FlattenLayer>(node); }
  Made operator()(const AddNode&) const {
    return std::make_unique<AddLayer>(node, FusibleActivation());
  }
  Made operator()(const SoftmaxCrossEntropyNode&) const {
    return std::make_unique<SoftmaxCrossEntropyLayer>(node);
  }
  Made operator()(const SquaredErrorNode& kind) const {
    return std::make_unique<SquaredErrorLayer>(node, kind);
  }
};

}  // namespace

std::unique_ptr<Layer> MakeLayer(const Node& node,
                                 const Node* next,
                                 const LayerParameters& parameters,
                                 bool synchronized) {
  return std::visit(Maker{node, next, parameters, synchronized}, node.kind);
}

LayerParameters FindParameters(
    const Graph& graph, const Node& node, float* parameters, float* gradients, float* state) {
  LayerParameters found;
  const std::string prefix = absl::StrCat(node.name, ".");
  const auto is_of_node = [&](const ParameterSpec& spec) {
    // A tensor's own name has no dot, a layer's may.
    return absl::StartsWith(spec.name, prefix) &&
           spec.name.find('.', prefix.size()) == std::string::npos;
  };
  for (const ParameterSpec& spec : graph.parameters()) {
    if (!is_of_node(spec)) {
      continue;
    }
    float* value = parameters + spec.offset;
    float* gradient = gradients == nullptr ? nullptr : gradients + spec.offset;
    const auto set = [&](float*& to_value, float*& to_gradient) {
      to_value = value;
      to_gradient = gradient;
    };
    switch (spec.role) {
      case ParameterRole::kWeight:
        set(found.weight, found.d_weight);
        break;
      case ParameterRole::kBias:
        set(found.bias, found.d_bias);
        break;
      case ParameterRole::kGamma:
        set(found.gamma, found.d_gamma);
        break;
      case ParameterRole::kBeta:
        set(found.beta, found.d_beta);
        break;
      case ParameterRole::kGain:
        set(found.gain, found.d_gain);
        break;
      case ParameterRole::kThreshold:
        set(found.threshold, found.d_threshold);
        break;
      case ParameterRole::kAlpha:
        set(found.alpha, found.d_alpha);
        break;
      case ParameterRole::kScale:
        set(found.scale, found.d_scale);
        break;
      case ParameterRole::kRunningMean:
      case ParameterRole::kRunningVar:
        break;
    }
  }
  for (const ParameterSpec& spec : graph.state()) {
    if (!is_of_node(spec)) {
      continue;
    }
    (spec.role == ParameterRole::kRunningMean ? found.running_mean : found.running_var) =
        state + spec.offset;
  }
  return found;
}

}  // namespace normlab::engine
