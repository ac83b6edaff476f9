#include "engine/graph/weight_layers.h"

#include <optional>
#include <variant>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace normlab::engine {
namespace {

template <typename... Kinds>
bool IsOneOf(const NodeKind& kind) {
  return (std::holds_alternative<Kinds>(kind) || ...);
}

bool IsWeightLayer(const NodeKind& kind) {
  return IsOneOf<LinearNode, ConvNode>(kind);
}

bool IsNormalizer(const NodeKind& kind) {
  return IsOneOf<BatchNormNode, NoisyBatchNormNode, GroupNormNode, RmsNormNode, BatchRenormNode,
                 GhostBatchNormNode, LpBatchNormNode, FilterResponseNode, DynamicTanhNode,
                 MeanOnlyBatchNormNode, FrozenBatchNormNode>(kind);
}

// Whether scaling the input of the normalizer leaves its output as it is, but for epsilon.
bool RemovesScale(const NodeKind& kind) {
  if (const auto* const noisy = std::get_if<NoisyBatchNormNode>(&kind)) {
    return noisy->normalize;
  }
  return IsOneOf<BatchNormNode, GroupNormNode, RmsNormNode, GhostBatchNormNode, LpBatchNormNode,
                 FilterResponseNode>(kind);
}

// Weight norm and standardization take the weights' scale away by themselves.
bool IgnoresScaleOfWeights(const NodeKind& kind) {
  const WeightOptions* weights = nullptr;
  if (const auto* const linear = std::get_if<LinearNode>(&kind)) {
    weights = &linear->weights;
  } else if (const auto* const convolution = std::get_if<ConvNode>(&kind)) {
    weights = &convolution->weights;
  }
  return weights != nullptr && weights->transform != WeightTransform::kNone;
}

bool HasBias(const NodeKind& kind) {
  if (const auto* const linear = std::get_if<LinearNode>(&kind)) {
    return linear->bias;
  }
  const auto* const convolution = std::get_if<ConvNode>(&kind);
  return convolution != nullptr && convolution->bias;
}

TensorRange RangeOf(const ParameterSpec& spec) {
  return {spec.offset, spec.count};
}

// The node that goes on with the output of node `position`: its only reader, or of several the only normalizer or
// activation (beside a skip connection); -1: none.
int NextNode(const Graph& graph, int position) {
  int readers = 0;
  int reader = -1;
  int followers = 0;
  int follower = -1;
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    const Node& node = graph.nodes()[i];
    for (const int input : node.inputs) {
      if (input == position) {
        ++readers;
        reader = static_cast<int>(i);
        if (IsNormalizer(node.kind) || std::holds_alternative<ActivationNode>(node.kind)) {
          ++followers;
          follower = static_cast<int>(i);
        }
      }
    }
  }
  if (readers == 1) {
    return reader;
  }
  return followers == 1 ? follower : -1;
}

// Follows the layer's output to its normalizer and activation.
void FindFollowers(const Graph& graph, int position, WeightLayer& layer) {
  bool past_sum = false;
  int before = position;
  for (int at = NextNode(graph, position); at != -1; at = NextNode(graph, at)) {
    const Node& node = graph.nodes()[static_cast<size_t>(at)];
    if (IsNormalizer(node.kind)) {
      if (past_sum || !layer.normalizer.empty()) {
        return;
      }
      layer.normalizer = node.name;
      layer.normalized_before_activation = layer.activation.empty();
      // A bias would be scaled less than the weights.
      layer.scale_invariant |= layer.normalized_before_activation && RemovesScale(node.kind) &&
                               !HasBias(graph.nodes()[static_cast<size_t>(position)].kind);
      if (std::holds_alternative<FilterResponseNode>(node.kind)) {
        layer.activation = node.name;
        layer.activation_input = graph.nodes()[static_cast<size_t>(before)].name;
        return;
      }
    } else if (std::holds_alternative<ActivationNode>(node.kind)) {
      if (!layer.activation.empty()) {
        return;
      }
      layer.activation = node.name;
      layer.activation_input = graph.nodes()[static_cast<size_t>(before)].name;
    } else if (IsOneOf<AddNode>(node.kind)) {
      past_sum = true;
    } else if (!IsOneOf<ScaleNode, ScalarBiasNode>(node.kind)) {
      return;
    }
    before = at;
  }
}

bool BelongsTo(const ParameterSpec& spec, const std::string& node) {
  return absl::StartsWith(spec.name, absl::StrCat(node, ".")) &&
         spec.name.find('.', node.size() + 1) == std::string::npos;
}

}  // namespace

std::vector<WeightLayer> FindWeightLayers(const Graph& graph) {
  std::vector<WeightLayer> layers;
  for (size_t i = 0; i < graph.nodes().size(); ++i) {
    const Node& node = graph.nodes()[i];
    if (!IsWeightLayer(node.kind)) {
      continue;
    }
    WeightLayer& layer = layers.emplace_back();
    layer.name = node.name;
    layer.scale_invariant = IgnoresScaleOfWeights(node.kind);
    FindFollowers(graph, static_cast<int>(i), layer);
    for (const ParameterSpec& spec : graph.parameters()) {
      const bool own = BelongsTo(spec, node.name);
      if (own || (!layer.normalizer.empty() && BelongsTo(spec, layer.normalizer))) {
        layer.parameters.push_back(RangeOf(spec));
      }
      if (own && spec.role == ParameterRole::kWeight) {
        layer.weight = RangeOf(spec);
      }
    }
  }
  return layers;
}

std::vector<AffineNormalizer> FindAffineNormalizers(const Graph& graph) {
  std::vector<AffineNormalizer> normalizers;
  for (const Node& node : graph.nodes()) {
    if (!IsNormalizer(node.kind)) {
      continue;
    }
    AffineNormalizer normalizer = {.name = node.name, .gamma = {}, .beta = {}};
    for (const ParameterSpec& spec : graph.parameters()) {
      if (BelongsTo(spec, node.name) && spec.role == ParameterRole::kGamma) {
        normalizer.gamma = RangeOf(spec);
      } else if (BelongsTo(spec, node.name) && spec.role == ParameterRole::kBeta) {
        normalizer.beta = RangeOf(spec);
      }
    }
    if (normalizer.gamma.count > 0 || normalizer.beta.count > 0) {
      normalizers.push_back(std::move(normalizer));
    }
  }
  return normalizers;
}

std::vector<TensorRange> WeightRanges(const Graph& graph) {
  std::vector<TensorRange> ranges;
  for (const ParameterSpec& spec : graph.parameters()) {
    if (spec.role == ParameterRole::kWeight) {
      ranges.push_back(RangeOf(spec));
    }
  }
  return ranges;
}

}  // namespace normlab::engine
