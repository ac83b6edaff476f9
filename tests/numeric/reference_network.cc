#include "tests/numeric/reference_network.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace normlab::engine {
namespace {

using reference::Tensor;

const ParameterSpec* Find(const std::vector<ParameterSpec>& specs,
                          const std::string& layer,
                          ParameterRole role) {
  for (const ParameterSpec& spec : specs) {
    if (spec.role == role && absl::StartsWith(spec.name, absl::StrCat(layer, "."))) {
      return &spec;
    }
  }
  return nullptr;
}

// A tensor's values, empty when the layer has no such tensor.
Tensor Slice(const ParameterSpec* spec, const Tensor& arena) {
  if (spec == nullptr) {
    return {};
  }
  return Tensor(arena.begin() + spec->offset, arena.begin() + spec->offset + spec->count);
}

void Store(const ParameterSpec* spec, const Tensor& values, Tensor& arena) {
  if (spec != nullptr) {
    std::copy(values.begin(), values.end(), arena.begin() + spec->offset);
  }
}

class Runner {
 public:
  Runner(const Graph& graph,
         const Tensor& parameters,
         const std::vector<int32_t>& labels,
         bool training)
      : graph_(graph),
        parameters_(parameters),
        labels_(labels),
        training_(training),
        batch_(static_cast<int64_t>(labels.size())) {}

  ReferenceResult Run(const Tensor& state, const Tensor& input) {
    result_.state = state;
    Tensor x = input;
    for (const Node& node : graph_.nodes()) {
      inputs_.push_back(x);
      x = Forward(node, x);
      result_.outputs[node.name] = x;
    }
    if (training_) {
      result_.gradients.assign(static_cast<size_t>(graph_.parameter_floats()), 0.0);
      Tensor d = d_logits_;
      for (size_t i = graph_.nodes().size() - 1; i-- > 0;) {
        d = Backward(graph_.nodes()[i], inputs_[i], d);
      }
    }
    return std::move(result_);
  }

 private:
  Tensor Of(const Node& node, ParameterRole role) const {
    return Slice(Find(graph_.parameters(), node.name, role), parameters_);
  }
  void Gradient(const Node& node, ParameterRole role, const Tensor& values) {
    Store(Find(graph_.parameters(), node.name, role), values, result_.gradients);
  }
  reference::LinearShape LinearOf(const Node& node) const {
    return {batch_, node.in[0], node.out[0]};
  }
  reference::ImageShape ImageOf(const Dims& dims) const {
    return {batch_, dims[0], dims[1], dims[2]};
  }
  reference::ConvShape ConvOf(const Node& node, const ConvNode& conv) const {
    return {ImageOf(node.in), conv.out_channels, conv.kernel, conv.stride, conv.padding};
  }
  reference::NormShape NormOf(const Node& node) const {
    return {batch_, node.in[0], ElementCount(node.in) / node.in[0]};
  }

  Tensor Forward(const Node& node, const Tensor& x) {
    const Tensor weight = Of(node, ParameterRole::kWeight);
    const Tensor bias = Of(node, ParameterRole::kBias);
    if (std::holds_alternative<LinearNode>(node.kind)) {
      return reference::LinearForward(LinearOf(node), x, weight, bias);
    }
    if (const auto* conv = std::get_if<ConvNode>(&node.kind)) {
      return reference::ConvForward(ConvOf(node, *conv), x, weight, bias);
    }
    if (const auto* norm = std::get_if<BatchNormNode>(&node.kind)) {
      return ForwardNorm(node, *norm, x);
    }
    if (const auto* activation = std::get_if<ActivationNode>(&node.kind)) {
      return reference::ActivationForward(activation->kind, x);
    }
    if (const auto* pool = std::get_if<PoolNode>(&node.kind)) {
      return reference::PoolForward({ImageOf(node.in), pool->kind, pool->window, pool->stride}, x);
    }
    if (std::holds_alternative<SoftmaxCrossEntropyNode>(node.kind)) {
      const reference::Loss loss = reference::SoftmaxCrossEntropy(batch_, node.in[0], x, labels_);
      result_.loss = loss.mean;
      result_.correct = loss.correct;
      result_.logits = x;
      d_logits_ = loss.d_logits;
      return {loss.mean};
    }
    return x;  // flatten
  }

  Tensor ForwardNorm(const Node& node, const BatchNormNode& norm, const Tensor& x) {
    const reference::NormShape shape = NormOf(node);
    const ParameterSpec* mean = Find(graph_.state(), node.name, ParameterRole::kRunningMean);
    const ParameterSpec* var = Find(graph_.state(), node.name, ParameterRole::kRunningVar);
    reference::Statistics running = {Slice(mean, result_.state), Slice(var, result_.state)};
    reference::Statistics used = running;
    if (training_) {
      used = reference::BatchStatistics(shape, x);
      reference::UpdateRunning(shape, norm.running_update_rate, used, running);
      Store(mean, running.mean, result_.state);
      Store(var, running.var, result_.state);
    }
    return reference::Normalize(shape, norm.epsilon, x, used, Of(node, ParameterRole::kGamma),
                                Of(node, ParameterRole::kBeta));
  }

  Tensor Backward(const Node& node, const Tensor& x, const Tensor& d_y) {
    if (std::holds_alternative<LinearNode>(node.kind)) {
      return Weights(node, reference::LinearBackward(LinearOf(node), x,
                                                     Of(node, ParameterRole::kWeight), d_y));
    }
    if (const auto* conv = std::get_if<ConvNode>(&node.kind)) {
      return Weights(node, reference::ConvBackward(ConvOf(node, *conv), x,
                                                   Of(node, ParameterRole::kWeight), d_y));
    }
    if (const auto* norm = std::get_if<BatchNormNode>(&node.kind)) {
      const reference::NormGradients d = reference::BatchNormBackward(
          NormOf(node), norm->epsilon, x, Of(node, ParameterRole::kGamma), d_y);
      Gradient(node, ParameterRole::kGamma, d.d_gamma);
      Gradient(node, ParameterRole::kBeta, d.d_beta);
      return d.d_x;
    }
    if (const auto* activation = std::get_if<ActivationNode>(&node.kind)) {
      return reference::ActivationBackward(activation->kind, x, d_y);
    }
    if (const auto* pool = std::get_if<PoolNode>(&node.kind)) {
      return reference::PoolBackward({ImageOf(node.in), pool->kind, pool->window, pool->stride}, x,
                                     d_y);
    }
    return d_y;  // flatten
  }

  Tensor Weights(const Node& node, const reference::WeightGradients& d) {
    Gradient(node, ParameterRole::kWeight, d.d_w);
    Gradient(node, ParameterRole::kBias, d.d_b);
    return d.d_x;
  }

  const Graph& graph_;
  const Tensor& parameters_;
  const std::vector<int32_t>& labels_;
  const bool training_;
  const int64_t batch_;
  std::vector<Tensor> inputs_;
  Tensor d_logits_;
  ReferenceResult result_;
};

}  // namespace

ReferenceResult RunReference(const Graph& graph,
                             const Tensor& parameters,
                             const Tensor& state,
                             const Tensor& input,
                             const std::vector<int32_t>& labels,
                             bool training) {
  return Runner(graph, parameters, labels, training).Run(state, input);
}

}  // namespace normlab::engine
