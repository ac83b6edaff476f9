#include "engine/graph/infer.h"

#include <limits>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace normlab::engine {
namespace {

ParameterSpec Tensor(absl::string_view layer, const char* name, ParameterRole role, Dims dims) {
  ParameterSpec spec;
  spec.name = absl::StrCat(layer, ".", name);
  spec.role = role;
  spec.count = ElementCount(dims);
  spec.dims = std::move(dims);
  return spec;
}

ParameterSpec Constant(
    absl::string_view layer, const char* name, ParameterRole role, Dims dims, float value) {
  ParameterSpec spec = Tensor(layer, name, role, std::move(dims));
  spec.constant = value;
  return spec;
}

// Infers one node; a function object over NodeKind.
struct Infer {
  using Result = absl::StatusOr<InferredNode>;

  absl::string_view name;
  const std::vector<Dims>& inputs;
  const Dims& in;

  // Weight and bias, or what they are made from. `weight`: [out, ...].
  void AddWeights(const WeightOptions& options,
                  const Dims& weight,
                  int64_t fan_in,
                  int64_t fan_out,
                  bool bias,
                  InferredNode& inferred) const {
    const bool normed = options.transform == WeightTransform::kWeightNorm;
    ParameterSpec spec =
        Tensor(name, normed ? "weight_v" : "weight", ParameterRole::kWeight, weight);
    spec.fan_in = fan_in;
    spec.fan_out = fan_out;
    spec.scale = options.initial_scale;
    if (options.initial_scale == 0) {
      spec.constant = 0.0F;
    }
    if (normed && options.data_dependent_init) {
      constexpr double kDirectionDeviation = 0.05;  // section 3 of the paper
      spec.std = kDirectionDeviation;
    }
    inferred.parameters.push_back(std::move(spec));
    if (normed) {
      // As torch.nn.utils.weight_norm has it: [out, 1, ...].
      Dims gain(weight.size(), 1);
      gain[0] = weight[0];
      ParameterSpec scale = Tensor(name, "weight_g", ParameterRole::kGain, std::move(gain));
      if (options.data_dependent_init) {
        scale.constant = 1.0F;  // until the first batch
      }
      inferred.parameters.push_back(std::move(scale));
    }
    if (bias) {
      ParameterSpec vector = Tensor(name, "bias", ParameterRole::kBias, {weight[0]});
      vector.fan_in = fan_in;
      vector.fan_out = fan_out;
      if (options.initial_scale == 0 || (normed && options.data_dependent_init)) {
        vector.constant = 0.0F;
      }
      inferred.parameters.push_back(std::move(vector));
    }
  }

  // gamma and beta [C]; names as PyTorch's normalizers have them.
  void AddGamma(float initial, InferredNode& inferred) const {
    inferred.parameters.push_back(
        Constant(name, "weight", ParameterRole::kGamma, {in[0]}, initial));
  }
  void AddBeta(InferredNode& inferred) const {
    inferred.parameters.push_back(Constant(name, "bias", ParameterRole::kBeta, {in[0]}, 0.0F));
  }
  void AddRunning(const char* tensor, ParameterRole role, InferredNode& inferred) const {
    inferred.state.push_back(
        Constant(name, tensor, role, {in[0]}, role == ParameterRole::kRunningVar ? 1.0F : 0.0F));
  }

  Result operator()(const LinearNode& node) const {
    if (in.size() != 1) {
      return Misfit(name, absl::StrCat("a linear layer needs a flat input, but gets ",
                                       DimsToString(in), "; put a flatten layer before it"));
    }
    if (node.out < 1 || node.out > kMaxElements) {
      return Misfit(name, absl::StrCat("cannot have ", node.out, " outputs; use at least 1"));
    }
    InferredNode inferred;
    inferred.out = {node.out};
    AddWeights(node.weights, {node.out, in[0]}, in[0], node.out, node.bias, inferred);
    return inferred;
  }

  Result operator()(const ConvNode& node) const {
    if (in.size() != 3) {
      return Misfit(
          name, absl::StrCat("a convolution needs an image [channels, height, width], but gets ",
                             DimsToString(in), "; use it before flattening"));
    }
    if (node.out_channels < 1 || node.out_channels > kMaxElements || node.kernel < 1 ||
        node.kernel > kMaxElements || node.stride < 1 || node.stride > kMaxElements ||
        node.padding < 0 || node.padding > kMaxElements) {
      return Misfit(name,
                    absl::StrCat("cannot convolve to ", node.out_channels, " channels with kernel ",
                                 node.kernel, ", stride ", node.stride, ", padding ", node.padding,
                                 "; all but the padding must be at least 1"));
    }
    if (node.groups < 1 || in[0] % node.groups != 0 || node.out_channels % node.groups != 0) {
      return Misfit(
          name, absl::StrCat("cannot convolve ", in[0], " channels to ", node.out_channels, " in ",
                             node.groups, " groups; the number of groups must divide both"));
    }
    const int64_t height = in[1] + 2 * node.padding;
    const int64_t width = in[2] + 2 * node.padding;
    if (node.kernel > height || node.kernel > width) {
      return Misfit(name,
                    absl::StrCat("a kernel of ", node.kernel, "x", node.kernel,
                                 " is larger than its input of ", DimsToString(in), " padded to ",
                                 height, "x", width, "; use a smaller kernel or more padding"));
    }
    InferredNode inferred;
    inferred.out = {node.out_channels, (height - node.kernel) / node.stride + 1,
                    (width - node.kernel) / node.stride + 1};
    const int64_t area = SaturatingProduct(node.kernel, node.kernel);
    const int64_t in_channels = in[0] / node.groups;
    AddWeights(node.weights, {node.out_channels, in_channels, node.kernel, node.kernel},
               SaturatingProduct(in_channels, area), SaturatingProduct(node.out_channels, area),
               node.bias, inferred);
    return inferred;
  }

  // What all normalizers of a running variance share. Written so that NaN fails too.
  absl::Status CheckEpsilon(double epsilon) const {
    return epsilon >= 0 ? absl::OkStatus()
                        : Misfit(name, absl::StrCat("cannot have epsilon ", epsilon,
                                                    "; it must not be negative"));
  }
  absl::Status CheckRate(double rate) const {
    return rate >= 0 && rate <= 1 ? absl::OkStatus()
                                  : Misfit(name, absl::StrCat("cannot have running update rate ",
                                                              rate, "; it must be from 0 to 1"));
  }

  Result Batch(const BatchNormNode& node, const char* second_statistic = "running_var") const {
    absl::Status status = CheckEpsilon(node.epsilon);
    status.Update(CheckRate(node.running_update_rate));
    if (!status.ok()) {
      return status;
    }
    InferredNode inferred;
    inferred.out = in;
    if (node.affine) {
      AddGamma(node.initial_gamma, inferred);
      AddBeta(inferred);
    }
    AddRunning("running_mean", ParameterRole::kRunningMean, inferred);
    AddRunning(second_statistic, ParameterRole::kRunningVar, inferred);
    return inferred;
  }

  Result operator()(const BatchNormNode& node) const { return Batch(node); }
  Result operator()(const NoisyBatchNormNode& node) const {
    return node.normalize ? Batch(node.batch) : InferredNode{in, {}, {}};
  }
  Result operator()(const BatchRenormNode& node) const { return Batch(node.batch); }
  Result operator()(const LpBatchNormNode& node) const {
    return Batch(node.batch, "running_scale");
  }
  Result operator()(const FrozenBatchNormNode& node) const { return Batch(node.batch); }
  Result operator()(const GhostBatchNormNode& node) const {
    if (node.size < 1) {
      return Misfit(name, absl::StrCat("cannot have ghost batches of ", node.size,
                                       " examples; use at least 1"));
    }
    return Batch(node.batch);
  }

  Result operator()(const GroupNormNode& node) const {
    if (const absl::Status status = CheckEpsilon(node.epsilon); !status.ok()) {
      return status;
    }
    if (node.groups < 1 || in[0] % node.groups != 0) {
      return Misfit(name, absl::StrCat("cannot divide ", in[0], " channels (input ",
                                       DimsToString(in), ") into ", node.groups,
                                       " groups; the number of groups must divide the channels"));
    }
    InferredNode inferred;
    inferred.out = in;
    if (node.affine) {
      AddGamma(node.initial_gamma, inferred);
      AddBeta(inferred);
    }
    return inferred;
  }

  Result operator()(const RmsNormNode& node) const {
    if (const absl::Status status = CheckEpsilon(node.epsilon); !status.ok()) {
      return status;
    }
    InferredNode inferred;
    inferred.out = in;
    if (node.affine) {
      AddGamma(node.initial_gamma, inferred);
    }
    return inferred;
  }

  Result operator()(const FilterResponseNode& node) const {
    if (const absl::Status status = CheckEpsilon(node.epsilon); !status.ok()) {
      return status;
    }
    InferredNode inferred;
    inferred.out = in;
    AddGamma(node.initial_gamma, inferred);
    AddBeta(inferred);
    inferred.parameters.push_back(Constant(name, "tau", ParameterRole::kThreshold, {in[0]}, 0.0F));
    return inferred;
  }

  Result operator()(const DynamicTanhNode& node) const {
    InferredNode inferred;
    inferred.out = in;
    if (node.affine) {
      AddGamma(node.initial_gamma, inferred);
      AddBeta(inferred);
    }
    inferred.parameters.push_back(Constant(name, "alpha", ParameterRole::kAlpha, {1},
                                           static_cast<float>(node.initial_alpha)));
    return inferred;
  }

  Result operator()(const MeanOnlyBatchNormNode& node) const {
    if (const absl::Status status = CheckRate(node.running_update_rate); !status.ok()) {
      return status;
    }
    InferredNode inferred;
    inferred.out = in;
    if (node.affine) {
      AddBeta(inferred);
    }
    AddRunning("running_mean", ParameterRole::kRunningMean, inferred);
    return inferred;
  }

  Result operator()(const ActivationNode&) const { return InferredNode{in, {}, {}}; }

  Result operator()(const PoolNode& node) const {
    if (in.size() != 3) {
      return Misfit(name,
                    absl::StrCat("pooling needs an image [channels, height, width], but gets ",
                                 DimsToString(in), "; use it before flattening"));
    }
    if (node.window < 1 || node.stride < 1) {
      return Misfit(name, absl::StrCat("cannot pool with window ", node.window, " and stride ",
                                       node.stride, "; both must be at least 1"));
    }
    if (node.window > in[1] || node.window > in[2]) {
      return Misfit(name, absl::StrCat("a pooling window of ", node.window, "x", node.window,
                                       " does not fit into ", DimsToString(in),
                                       "; pool less often or with a smaller window"));
    }
    return InferredNode{
        {in[0], (in[1] - node.window) / node.stride + 1, (in[2] - node.window) / node.stride + 1},
        {},
        {}};
  }

  Result operator()(const GlobalAveragePoolNode&) const {
    if (in.size() != 3) {
      return Misfit(name, absl::StrCat("global average pooling needs an image [channels, height, "
                                       "width], but gets ",
                                       DimsToString(in), "; use it before flattening"));
    }
    return InferredNode{{in[0]}, {}, {}};
  }

  Result operator()(const PadNode& node) const {
    if (in.size() != 3 || node.height < in[1] || node.width < in[2] || node.height > kMaxElements ||
        node.width > kMaxElements) {
      return Misfit(name, absl::StrCat("cannot pad ", DimsToString(in), " to ", node.height, "x",
                                       node.width, "; give an image that is not larger"));
    }
    return InferredNode{{in[0], node.height, node.width}, {}, {}};
  }

  Result operator()(const SubsampleNode& node) const {
    if (in.size() != 3 || node.stride < 1 || node.out_channels < in[0] ||
        node.out_channels > kMaxElements) {
      return Misfit(
          name, absl::StrCat("cannot make ", node.out_channels, " channels of ", DimsToString(in),
                             " with stride ", node.stride,
                             "; a zero-padded shortcut needs an image and adds channels"));
    }
    return InferredNode{
        {node.out_channels, (in[1] - 1) / node.stride + 1, (in[2] - 1) / node.stride + 1}, {}, {}};
  }

  Result operator()(const FlattenNode&) const { return InferredNode{{ElementCount(in)}, {}, {}}; }

  Result operator()(const AddNode&) const {
    for (const Dims& other : inputs) {
      if (other != in) {
        return Misfit(name,
                      absl::StrCat("cannot add ", DimsToString(other), " to ", DimsToString(in),
                                   "; give it inputs of one shape (a 1x1 convolution with a "
                                   "stride can change a shape)"));
      }
    }
    return InferredNode{in, {}, {}};
  }

  Result operator()(const ScaleNode& node) const {
    return InferredNode{
        in, {Constant(name, "scale", ParameterRole::kScale, {1}, node.initial)}, {}};
  }

  Result operator()(const ScalarBiasNode&) const {
    return InferredNode{in, {Constant(name, "bias", ParameterRole::kBias, {1}, 0.0F)}, {}};
  }

  Result Loss() const {
    if (in.size() != 1) {
      return Misfit(name,
                    absl::StrCat("the loss needs one number per class or target, but gets ",
                                 DimsToString(in), "; put flatten and linear layers before it"));
    }
    return InferredNode{{}, {}, {}};
  }
  Result operator()(const SoftmaxCrossEntropyNode&) const { return Loss(); }
  Result operator()(const SquaredErrorNode&) const { return Loss(); }
};

}  // namespace

int64_t SaturatingProduct(int64_t a, int64_t b) {
  int64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? std::numeric_limits<int64_t>::max() : product;
}

absl::Status Misfit(absl::string_view layer, absl::string_view problem) {
  return absl::InvalidArgumentError(absl::StrCat("layer ", layer, ": ", problem));
}

absl::StatusOr<InferredNode> InferNode(absl::string_view name,
                                       const NodeKind& kind,
                                       const std::vector<Dims>& inputs) {
  const bool is_sum = std::holds_alternative<AddNode>(kind);
  if (is_sum ? inputs.size() < 2 : inputs.size() != 1) {
    return Misfit(name, is_sum
                            ? "a sum needs at least two inputs; name them"
                            : absl::StrCat("has ", inputs.size(),
                                           " inputs, but only a sum has more than one; use add"));
  }
  return std::visit(Infer{name, inputs, inputs[0]}, kind);
}

}  // namespace normlab::engine
