#include "engine/layers/table.h"

#include <type_traits>
#include <variant>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "engine/layers/activation.h"
#include "engine/layers/batch_norm.h"
#include "engine/layers/conv2d.h"
#include "engine/layers/flatten.h"
#include "engine/layers/linear.h"
#include "engine/layers/pool.h"
#include "engine/layers/softmax_cross_entropy.h"

namespace normlab::engine {
namespace {

struct Maker {
  const Node& node;
  const Node* next;
  const LayerParameters& parameters;

  using Made = std::unique_ptr<Layer>;

  Made operator()(const LinearNode& kind) const {
    return std::make_unique<LinearLayer>(node, kind, parameters);
  }
  Made operator()(const ConvNode& kind) const {
    return std::make_unique<Conv2dLayer>(node, kind, parameters);
  }
  Made operator()(const BatchNormNode& kind) const {
    std::optional<ActivationKind> fusible;
    if (next != nullptr) {
      if (const auto* activation = std::get_if<ActivationNode>(&next->kind)) {
        fusible = activation->kind;
      }
    }
    return BatchNormLayer::Make(node, kind, fusible, parameters);
  }
  Made operator()(const ActivationNode& kind) const {
    return std::make_unique<ActivationLayer>(node, kind);
  }
  Made operator()(const PoolNode& kind) const { return std::make_unique<PoolLayer>(node, kind); }
  Made operator()(const FlattenNode&) const { return std::make_unique<FlattenLayer>(node); }
  Made operator()(const SoftmaxCrossEntropyNode&) const {
    return std::make_unique<SoftmaxCrossEntropyLayer>(node);
  }
};

}  // namespace

std::unique_ptr<Layer> MakeLayer(const Node& node,
                                 const Node* next,
                                 const LayerParameters& parameters) {
  return std::visit(Maker{node, next, parameters}, node.kind);
}

bool ComputesNextNode(const Layer& layer) {
  const auto* norm = dynamic_cast<const BatchNormLayer*>(&layer);
  return norm != nullptr && norm->fused();
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
    switch (spec.role) {
      case ParameterRole::kWeight:
        found.weight = value;
        found.d_weight = gradient;
        break;
      case ParameterRole::kBias:
        found.bias = value;
        found.d_bias = gradient;
        break;
      case ParameterRole::kGamma:
        found.gamma = value;
        found.d_gamma = gradient;
        break;
      case ParameterRole::kBeta:
        found.beta = value;
        found.d_beta = gradient;
        break;
      case ParameterRole::kGain:
      case ParameterRole::kThreshold:
      case ParameterRole::kAlpha:
      case ParameterRole::kScale:
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
