#include "tests/numeric/reference_network.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "engine/layers/reference_normalizers.h"
#include "engine/layers/reference_structural.h"
#include "tests/numeric/reference_normalizer_node.h"

namespace normlab::engine {
namespace {

using reference::Tensor;

const ParameterSpec* Find(const std::vector<ParameterSpec>& specs,
                          const std::string& layer,
                          ParameterRole role) {
  const std::string prefix = absl::StrCat(layer, ".");
  for (const ParameterSpec& spec : specs) {
    if (spec.role == role && absl::StartsWith(spec.name, prefix) &&
        spec.name.find('.', prefix.size()) == std::string::npos) {
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

void AddTo(Tensor& sum, const Tensor& values) {
  if (sum.empty()) {
    sum = values;
    return;
  }
  for (size_t i = 0; i < sum.size(); ++i) {
    sum[i] += values[i];
  }
}

const WeightOptions* WeightsOf(const Node& node) {
  if (const auto* linear = std::get_if<LinearNode>(&node.kind)) {
    return &linear->weights;
  }
  const auto* conv = std::get_if<ConvNode>(&node.kind);
  return conv == nullptr ? nullptr : &conv->weights;
}

class Runner {
 public:
  Runner(const Graph& graph,
         const Tensor& parameters,
         const Tensor& state,
         const std::vector<int32_t>& labels,
         const Tensor& targets,
         bool training,
         int64_t batch)
      : graph_(graph),
        parameters_(parameters),
        state_(state),
        labels_(labels),
        targets_(targets),
        training_(training),
        batch_(batch),
        outputs_(graph.nodes().size()),
        gradients_(graph.nodes().size()) {}

  ReferenceResult Run(const Tensor& input) {
    result_.state = state_;
    input_ = input;
    for (size_t i = 0; i < outputs_.size(); ++i) {
      const Node& node = graph_.nodes()[i];
      outputs_[i] = Forward(node);
      result_.outputs[node.name] = outputs_[i];
    }
    if (training_) {
      result_.gradients.assign(static_cast<size_t>(graph_.parameter_floats()), 0.0);
      for (size_t i = outputs_.size(); i-- > 0;) {
        const Node& node = graph_.nodes()[i];
        const Tensor d_x = IsLoss(node.kind) ? d_outputs_ : Backward(node, gradients_[i]);
        for (const int from : node.inputs) {
          if (from != kGraphInput) {
            AddTo(gradients_[static_cast<size_t>(from)], d_x);
          }
        }
      }
    }
    return std::move(result_);
  }

 private:
  const Tensor& Input(const Node& node, size_t i = 0) const {
    const int from = node.inputs[i];
    return from == kGraphInput ? input_ : outputs_[static_cast<size_t>(from)];
  }
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
    return {ImageOf(node.in), conv.out_channels, conv.kernel,
            conv.stride,      conv.padding,      conv.groups};
  }

  // The weights that the layer computes with.
  Tensor WeightOf(const Node& node) const {
    const WeightOptions* options = WeightsOf(node);
    if (options == nullptr) {
      return {};
    }
    const Tensor weight = Of(node, ParameterRole::kWeight);
    switch (options->transform) {
      case WeightTransform::kNone:
        return weight;
      case WeightTransform::kWeightNorm:
        return reference::WeightNormForward(node.out[0], weight, Of(node, ParameterRole::kGain));
      case WeightTransform::kStandardization:
        return reference::WeightStandardizationForward(node.out[0], weight);
    }
    return weight;
  }

  NormalizerPass Pass() const { return {.batch = batch_, .training = training_}; }
  NormalizerValues ValuesOf(const Node& node) const {
    const auto running = [&](ParameterRole role) {
      return Slice(Find(graph_.state(), node.name, role), state_);
    };
    return {.gamma = Of(node, ParameterRole::kGamma),
            .beta = Of(node, ParameterRole::kBeta),
            .tau = Of(node, ParameterRole::kThreshold),
            .alpha = Of(node, ParameterRole::kAlpha),
            .running = {running(ParameterRole::kRunningMean), running(ParameterRole::kRunningVar)}};
  }

  Tensor Forward(const Node& node) {
    const Tensor& x = Input(node);
    if (IsNormalizer(node.kind)) {
      return ForwardNormalizer(node, x);
    }
    if (IsLoss(node.kind)) {
      return {ForwardLoss(node, x)};
    }
    if (std::holds_alternative<LinearNode>(node.kind)) {
      return reference::LinearForward(LinearOf(node), x, WeightOf(node),
                                      Of(node, ParameterRole::kBias));
    }
    if (const auto* conv = std::get_if<ConvNode>(&node.kind)) {
      return reference::ConvForward(ConvOf(node, *conv), x, WeightOf(node),
                                    Of(node, ParameterRole::kBias));
    }
    if (const auto* activation = std::get_if<ActivationNode>(&node.kind)) {
      return reference::ActivationForward(activation->kind, x);
    }
    if (const auto* pool = std::get_if<PoolNode>(&node.kind)) {
      return reference::PoolForward({ImageOf(node.in), pool->kind, pool->window, pool->stride}, x);
    }
    if (std::holds_alternative<GlobalAveragePoolNode>(node.kind)) {
      return reference::GlobalAveragePoolForward(ImageOf(node.in), x);
    }
    if (const auto* pad = std::get_if<PadNode>(&node.kind)) {
      return reference::PadForward({ImageOf(node.in), pad->height, pad->width}, x);
    }
    if (const auto* subsample = std::get_if<SubsampleNode>(&node.kind)) {
      return reference::SubsampleForward(
          {ImageOf(node.in), subsample->stride, subsample->out_channels}, x);
    }
    Tensor y = x;  // flatten
    if (std::holds_alternative<AddNode>(node.kind)) {
      for (size_t i = 1; i < node.inputs.size(); ++i) {
        AddTo(y, Input(node, i));
      }
    } else if (std::holds_alternative<ScaleNode>(node.kind)) {
      const double scale = Of(node, ParameterRole::kScale)[0];
      std::for_each(y.begin(), y.end(), [scale](double& v) { v *= scale; });
    } else if (std::holds_alternative<ScalarBiasNode>(node.kind)) {
      const double bias = Of(node, ParameterRole::kBias)[0];
      std::for_each(y.begin(), y.end(), [bias](double& v) { v += bias; });
    }
    return y;
  }

  Tensor ForwardNormalizer(const Node& node, const Tensor& x) {
    NormalizerOutput output = ReferenceNormalizerForward(node, Pass(), ValuesOf(node), x);
    Store(Find(graph_.state(), node.name, ParameterRole::kRunningMean), output.running.mean,
          result_.state);
    Store(Find(graph_.state(), node.name, ParameterRole::kRunningVar), output.running.var,
          result_.state);
    return std::move(output.y);
  }

  double ForwardLoss(const Node& node, const Tensor& x) {
    result_.logits = x;
    if (std::holds_alternative<SoftmaxCrossEntropyNode>(node.kind)) {
      const reference::Loss loss = reference::SoftmaxCrossEntropy(batch_, node.in[0], x, labels_);
      result_.loss = loss.mean;
      result_.correct = loss.correct;
      d_outputs_ = loss.d_logits;
      return loss.mean;
    }
    Tensor wanted = targets_;
    if (wanted.empty()) {  // of classes: 1 for the label
      wanted.assign(x.size(), 0.0);
      for (int64_t n = 0; n < batch_; ++n) {
        const int64_t first = n * node.in[0];
        const int64_t label = labels_[static_cast<size_t>(n)];
        wanted[static_cast<size_t>(first + label)] = 1;
        const auto row = x.begin() + first;
        result_.correct += std::max_element(row, row + node.in[0]) - row == label ? 1 : 0;
      }
    }
    const bool mean = std::get<SquaredErrorNode>(node.kind).mean;
    const double weight = mean ? 1 / static_cast<double>(x.size()) : 1;
    d_outputs_.assign(x.size(), 0.0);
    for (size_t i = 0; i < x.size(); ++i) {
      result_.loss += weight * (x[i] - wanted[i]) * (x[i] - wanted[i]);
      d_outputs_[i] = 2 * weight * (x[i] - wanted[i]);
    }
    return result_.loss;
  }

  Tensor Backward(const Node& node, const Tensor& d_y) {
    const Tensor& x = Input(node);
    if (IsNormalizer(node.kind)) {
      return BackwardNormalizer(node, x, d_y);
    }
    if (std::holds_alternative<LinearNode>(node.kind)) {
      return Weights(node, reference::LinearBackward(LinearOf(node), x, WeightOf(node), d_y));
    }
    if (const auto* conv = std::get_if<ConvNode>(&node.kind)) {
      return Weights(node, reference::ConvBackward(ConvOf(node, *conv), x, WeightOf(node), d_y));
    }
    if (const auto* activation = std::get_if<ActivationNode>(&node.kind)) {
      return reference::ActivationBackward(activation->kind, x, d_y);
    }
    if (const auto* pool = std::get_if<PoolNode>(&node.kind)) {
      return reference::PoolBackward({ImageOf(node.in), pool->kind, pool->window, pool->stride}, x,
                                     d_y);
    }
    if (std::holds_alternative<GlobalAveragePoolNode>(node.kind)) {
      return reference::GlobalAveragePoolBackward(ImageOf(node.in), d_y);
    }
    if (const auto* pad = std::get_if<PadNode>(&node.kind)) {
      return reference::PadBackward({ImageOf(node.in), pad->height, pad->width}, d_y);
    }
    if (const auto* subsample = std::get_if<SubsampleNode>(&node.kind)) {
      return reference::SubsampleBackward(
          {ImageOf(node.in), subsample->stride, subsample->out_channels}, d_y);
    }
    if (std::holds_alternative<ScaleNode>(node.kind)) {
      return BackwardScale(node, x, d_y);
    }
    if (std::holds_alternative<ScalarBiasNode>(node.kind)) {
      double sum = 0;
      std::for_each(d_y.begin(), d_y.end(), [&sum](double v) { sum += v; });
      Gradient(node, ParameterRole::kBias, {sum});
    }
    return d_y;  // of a sum: for every input; flatten
  }

  Tensor BackwardScale(const Node& node, const Tensor& x, const Tensor& d_y) {
    const double scale = Of(node, ParameterRole::kScale)[0];
    Tensor d_x = d_y;
    double d_scale = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      d_scale += x[i] * d_y[i];
      d_x[i] *= scale;
    }
    Gradient(node, ParameterRole::kScale, {d_scale});
    return d_x;
  }

  Tensor BackwardNormalizer(const Node& node, const Tensor& x, const Tensor& d_y) {
    const NormalizerNodeGradients d =
        ReferenceNormalizerBackward(node, Pass(), ValuesOf(node), x, d_y);
    Gradient(node, ParameterRole::kGamma, d.d_gamma);
    Gradient(node, ParameterRole::kBeta, d.d_beta);
    Gradient(node, ParameterRole::kThreshold, d.d_tau);
    Gradient(node, ParameterRole::kAlpha, d.d_alpha);
    return d.d_x;
  }

  Tensor Weights(const Node& node, const reference::WeightGradients& d) {
    const Tensor weight = Of(node, ParameterRole::kWeight);
    switch (WeightsOf(node)->transform) {
      case WeightTransform::kNone:
        Gradient(node, ParameterRole::kWeight, d.d_w);
        break;
      case WeightTransform::kWeightNorm: {
        const reference::WeightNormGradients through = reference::WeightNormBackward(
            node.out[0], weight, Of(node, ParameterRole::kGain), d.d_w);
        Gradient(node, ParameterRole::kWeight, through.d_v);
        Gradient(node, ParameterRole::kGain, through.d_g);
        break;
      }
      case WeightTransform::kStandardization:
        Gradient(node, ParameterRole::kWeight,
                 reference::WeightStandardizationBackward(node.out[0], weight, d.d_w));
        break;
    }
    Gradient(node, ParameterRole::kBias, d.d_b);
    return d.d_x;
  }

  const Graph& graph_;
  const Tensor& parameters_;
  const Tensor& state_;  // from before the pass
  const std::vector<int32_t>& labels_;
  const Tensor& targets_;
  const bool training_;
  const int64_t batch_;
  Tensor input_;
  std::vector<Tensor> outputs_;    // by node
  std::vector<Tensor> gradients_;  // of the loss with respect to them
  Tensor d_outputs_;               // with respect to what the loss reads
  ReferenceResult result_;
};

}  // namespace

ReferenceResult RunReference(const Graph& graph,
                             const Tensor& parameters,
                             const Tensor& state,
                             const Tensor& input,
                             const std::vector<int32_t>& labels,
                             bool training,
                             const Tensor& targets) {
  const int64_t batch = static_cast<int64_t>(input.size()) / ElementCount(graph.input());
  return Runner(graph, parameters, state, labels, targets, training, batch).Run(input);
}

}  // namespace normlab::engine
