#include "engine/models/network_builder.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/edit_distance.h"
#include "common/wildcard.h"
#include "engine/models/normalizer_node.h"

namespace normlab::engine {
namespace {

// Whether the weight layer keeps its bias. Between it and a normalizer after the activation a bias
// is not redundant.
bool HasBias(const NormalizerChoice& choice, ActivationKind activation) {
  return choice.traits.layer_has_bias ||
         (choice.after_activation && activation != ActivationKind::kIdentity);
}

// "fc1, fc2, fc3"; of many names those that are most like `wanted`, in their order, and "...".
std::string SomeOf(const std::vector<std::string>& names, const std::string& wanted) {
  constexpr size_t kAll = 24;
  constexpr size_t kNearest = 6;
  if (names.size() <= kAll) {
    return absl::StrJoin(names, ", ");
  }
  std::vector<std::pair<int, size_t>> nearest;
  for (size_t i = 0; i < names.size(); ++i) {
    nearest.emplace_back(common::EditDistance(wanted, names[i]), i);
  }
  std::sort(nearest.begin(), nearest.end());
  nearest.resize(kNearest);
  std::sort(nearest.begin(), nearest.end(),
            [](const auto& a, const auto& b) { return a.second < b.second; });
  return absl::StrCat(absl::StrJoin(nearest, ", ",
                                    [&names](std::string* out, const auto& entry) {
                                      out->append(names[entry.second]);
                                    }),
                      ", ...");
}

}  // namespace

ActivationKind ToActivationKind(v1::Activation::Kind kind) {
  switch (kind) {
    case v1::Activation::SIGMOID:
      return ActivationKind::kSigmoid;
    case v1::Activation::TANH:
      return ActivationKind::kTanh;
    case v1::Activation::IDENTITY:
      return ActivationKind::kIdentity;
    case v1::Activation::LEAKY_RELU:
      return ActivationKind::kLeakyRelu;
    case v1::Activation::ELU:
      return ActivationKind::kElu;
    case v1::Activation::SELU:
      return ActivationKind::kSelu;
    case v1::Activation::GELU:
      return ActivationKind::kGelu;
    case v1::Activation::SILU:
      return ActivationKind::kSilu;
    default:  // RELU; a valid, resolved spec has no other value
      return ActivationKind::kRelu;
  }
}

PoolNode ToPoolNode(const v1::Pooling& pooling) {
  return {.kind = pooling.kind() == v1::Pooling::AVERAGE ? PoolKind::kAverage : PoolKind::kMax,
          .window = pooling.window(),
          .stride = pooling.stride()};
}

int64_t ScaledChannels(int64_t channels, double multiplier) {
  return std::max<int64_t>(std::llround(static_cast<double>(channels) * multiplier), 1);
}

NetworkBuilder::NetworkBuilder(const v1::JobSpec& resolved, const DatasetShape& shape)
    : spec_(resolved),
      outputs_(shape.targets > 0 ? shape.targets : shape.classes),
      has_targets_(shape.targets > 0),
      graph_(InputDims(shape)),
      used_overrides_(static_cast<size_t>(resolved.normalization_overrides_size()), false) {}

NormalizerChoice NetworkBuilder::Choose(const std::string& layer) {
  normalized_layers_.push_back(layer);
  NormalizerChoice choice = {.normalizer = &spec_.normalization(),
                             .origin = {.field = "normalization", .layer = layer}};
  for (int i = 0; i < spec_.normalization_overrides_size(); ++i) {
    const v1::NormalizationOverride& override = spec_.normalization_overrides(i);
    if (common::WildcardMatch(override.layers(), layer)) {
      used_overrides_[static_cast<size_t>(i)] = true;
      choice.normalizer = &override.normalization();
      choice.origin.field = absl::StrCat("normalization_overrides[", i, "].normalization");
    }
  }
  choice.origin.kind = NormalizerName(*choice.normalizer);
  choice.traits = TraitsOf(*choice.normalizer);
  choice.after_activation = choice.traits.prefix != nullptr && !choice.traits.replaces_activation &&
                            !choice.normalizer->has_weight() &&
                            choice.normalizer->placement() == v1::Placement::AFTER_ACTIVATION;
  return choice;
}

const Dims& NetworkBuilder::DimsOf(const std::string& node) const {
  const Node* found = graph_.Find(node);
  return found == nullptr ? graph_.input() : found->out;
}

void NetworkBuilder::Fail(const std::string& field, std::string description) {
  violations_.push_back({field, std::move(description)});
}

void NetworkBuilder::Add(const std::string& field,
                         const std::string& name,
                         NodeKind kind,
                         const std::vector<std::string>& inputs) {
  if (!ok()) {
    return;  // every later shape would be a guess
  }
  const absl::Status status = graph_.Add(
      name, std::move(kind), inputs.empty() ? std::vector<std::string>{current_} : inputs);
  if (!status.ok()) {
    Fail(field, std::string(status.message()));
    return;
  }
  current_ = name;
}

void NetworkBuilder::AddLinear(const std::string& field,
                               const std::string& name,
                               int64_t outputs,
                               const NormalizerChoice& choice,
                               ActivationKind activation) {
  Add(field, name,
      LinearNode{
          .out = outputs, .bias = HasBias(choice, activation), .weights = choice.traits.weights});
  RememberWeightNorm(choice, name);
}

void NetworkBuilder::AddConvolution(const std::string& field,
                                    const std::string& name,
                                    ConvNode node,
                                    const NormalizerChoice& choice,
                                    ActivationKind activation) {
  node.bias = HasBias(choice, activation);
  const double scale = node.weights.initial_scale;
  node.weights = choice.traits.weights;
  node.weights.initial_scale = scale;
  Add(field, name, node);
  RememberWeightNorm(choice, name);
}

void NetworkBuilder::RememberWeightNorm(const NormalizerChoice& choice, const std::string& name) {
  // None: a custom model's layer that no normalizer reads.
  if (choice.normalizer != nullptr && choice.normalizer->has_weight()) {
    normalizers_[name] = choice.origin;
  }
}

void NetworkBuilder::AddNormalizer(const NormalizerChoice& choice,
                                   const std::string& name,
                                   float initial_gamma) {
  const std::optional<NodeKind> node =
      NormalizerNode(*choice.normalizer, current_dims(), initial_gamma);
  if (!node.has_value()) {
    return;
  }
  // Of a valid spec, only the number of groups can fail to fit.
  const char* kind =
      choice.normalizer->has_weight_standardization() ? "weight_standardization" : "group";
  Add(absl::StrCat(choice.origin.field, ".", kind, ".groups"), name, *node);
  normalizers_[name] = choice.origin;
}

void NetworkBuilder::AddActivation(const std::string& name, ActivationKind activation) {
  if (activation != ActivationKind::kIdentity) {
    Add("model", name, ActivationNode{.kind = activation});
  }
}

void NetworkBuilder::AddNormalizerAndActivation(const NormalizerChoice& choice,
                                                ActivationKind activation,
                                                const Namer& namer) {
  const auto add_normalizer = [&] {
    if (choice.traits.prefix != nullptr) {
      AddNormalizer(choice, namer(choice.traits.prefix));
    }
  };
  const auto add_activation = [&] {
    if (activation != ActivationKind::kIdentity && !choice.traits.replaces_activation) {
      AddActivation(namer("act"), activation);
    }
  };
  if (choice.after_activation) {
    add_activation();
    add_normalizer();
  } else {
    add_normalizer();
    add_activation();
  }
}

bool NetworkBuilder::RequireImages(absl::string_view model) {
  if (graph_.input().size() == 3) {
    return true;
  }
  Fail("model",
       absl::StrCat("is ", model, ", which works on images, but an example of the data is ",
                    DimsToString(graph_.input()),
                    " features; use an mlp, deep_linear or custom model"));
  return false;
}

void NetworkBuilder::PadImages(int64_t size) {
  const Dims dims = current_dims();
  if (dims[1] < size || dims[2] < size) {
    Add("model", "pad",
        PadNode{.height = std::max(dims[1], size), .width = std::max(dims[2], size)});
  }
}

void NetworkBuilder::Flatten(const std::string& field) {
  if (current_dims().size() > 1) {
    Add(field, "flatten", FlattenNode{});
  }
}

void NetworkBuilder::AddLoss() {
  v1::Loss::Kind kind = spec_.loss();
  if (kind == v1::Loss::KIND_UNSPECIFIED) {
    kind = !has_targets_                     ? v1::Loss::SOFTMAX_CROSS_ENTROPY
           : spec_.model().has_deep_linear() ? v1::Loss::SUM_SQUARED_ERROR
                                             : v1::Loss::MEAN_SQUARED_ERROR;
  }
  if (kind == v1::Loss::SOFTMAX_CROSS_ENTROPY && has_targets_) {
    Fail("loss",
         absl::StrCat("is SOFTMAX_CROSS_ENTROPY, which needs classes, but the data have ", outputs_,
                      " real-valued targets; use MEAN_SQUARED_ERROR or "
                      "SUM_SQUARED_ERROR"));
    return;
  }
  // Fails when a layer's output is used by nobody, which only a custom model can have.
  const char* field = spec_.model().has_custom() ? "model.custom.layers" : "model";
  if (kind == v1::Loss::SOFTMAX_CROSS_ENTROPY) {
    Add(field, "loss", SoftmaxCrossEntropyNode{});
  } else {
    Add(field, "loss", SquaredErrorNode{.mean = kind == v1::Loss::MEAN_SQUARED_ERROR});
  }
}

std::string NetworkBuilder::WhyNoLayerMatches(const std::string& pattern) const {
  for (const auto& [name, origin] : normalizers_) {
    if (common::WildcardMatch(pattern, name)) {
      return absl::StrCat("is ", Quoted(pattern), ", which matches the normalizer ", name,
                          "; overrides name the weight layer that is normalized: write ",
                          Quoted(origin.layer));
    }
  }
  if (normalized_layers_.empty()) {
    return absl::StrCat("is ", Quoted(pattern),
                        ", but the model has no layer with a normalizer; remove it");
  }
  return absl::StrCat("is ", Quoted(pattern), ", which matches none of the ",
                      normalized_layers_.size(), " layers with a normalizer (",
                      SomeOf(normalized_layers_, pattern), "); correct it, or remove the override");
}

void NetworkBuilder::CheckOverrides() {
  for (size_t i = 0; i < used_overrides_.size(); ++i) {
    if (!used_overrides_[i]) {
      Fail(absl::StrCat("normalization_overrides[", i, "].layers"),
           WhyNoLayerMatches(spec_.normalization_overrides(static_cast<int>(i)).layers()));
    }
  }
}

BuiltGraph NetworkBuilder::Finish() {
  if (ok()) {
    AddLoss();
  }
  if (ok()) {
    CheckOverrides();
  }
  BuiltGraph built;
  if (ok()) {
    built.graph = std::move(graph_);
    built.normalizers = std::move(normalizers_);
  }
  built.violations = std::move(violations_);
  return built;
}

}  // namespace normlab::engine
