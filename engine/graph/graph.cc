#include "engine/graph/graph.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/status_macros.h"

namespace normlab::engine {
namespace {

constexpr int64_t kAlignmentFloats = 16;
// Far beyond what any machine trains, small enough that sums and products of a few of them fit 64
// bits.
constexpr int64_t kMaxElements = int64_t{1} << 40;

int64_t SaturatingProduct(int64_t a, int64_t b) {
  int64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? std::numeric_limits<int64_t>::max() : product;
}

int64_t AlignUp(int64_t floats) {
  return (floats + kAlignmentFloats - 1) / kAlignmentFloats * kAlignmentFloats;
}

absl::Status Misfit(absl::string_view layer, absl::string_view problem) {
  return absl::InvalidArgumentError(absl::StrCat("layer ", layer, ": ", problem));
}

// What a node adds to a graph: its output shape and its tensors, still without offsets.
struct Shape {
  Dims out;
  std::vector<ParameterSpec> parameters;
  std::vector<ParameterSpec> state;
};

ParameterSpec Tensor(absl::string_view layer,
                     absl::string_view name,
                     ParameterRole role,
                     Dims dims,
                     int64_t fan_in = 0,
                     int64_t fan_out = 0) {
  ParameterSpec spec;
  spec.name = absl::StrCat(layer, ".", name);
  spec.role = role;
  spec.count = ElementCount(dims);
  spec.dims = std::move(dims);
  spec.fan_in = fan_in;
  spec.fan_out = fan_out;
  return spec;
}

// Infers the shape of one node; a function object over NodeKind.
struct Infer {
  absl::string_view name;
  const Dims& in;

  absl::StatusOr<Shape> operator()(const LinearNode& node) const {
    if (in.size() != 1) {
      return Misfit(name, absl::StrCat("a linear layer needs a flat input, but gets ",
                                       DimsToString(in), "; put a flatten layer before it"));
    }
    if (node.out < 1 || node.out > kMaxElements) {
      return Misfit(name, absl::StrCat("cannot have ", node.out, " outputs; use at least 1"));
    }
    Shape shape;
    shape.out = {node.out};
    shape.parameters.push_back(
        Tensor(name, "weight", ParameterRole::kWeight, {node.out, in[0]}, in[0], node.out));
    if (node.bias) {
      shape.parameters.push_back(
          Tensor(name, "bias", ParameterRole::kBias, {node.out}, in[0], node.out));
    }
    return shape;
  }

  absl::StatusOr<Shape> operator()(const ConvNode& node) const {
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
    const int64_t height = in[1] + 2 * node.padding;
    const int64_t width = in[2] + 2 * node.padding;
    if (node.kernel > height || node.kernel > width) {
      return Misfit(name,
                    absl::StrCat("a kernel of ", node.kernel, "x", node.kernel,
                                 " is larger than its input of ", DimsToString(in), " padded to ",
                                 height, "x", width, "; use a smaller kernel or more padding"));
    }
    Shape shape;
    shape.out = {node.out_channels, (height - node.kernel) / node.stride + 1,
                 (width - node.kernel) / node.stride + 1};
    const int64_t area = SaturatingProduct(node.kernel, node.kernel);
    const int64_t fan_in = SaturatingProduct(in[0], area);
    const int64_t fan_out = SaturatingProduct(node.out_channels, area);
    shape.parameters.push_back(Tensor(name, "weight", ParameterRole::kWeight,
                                      {node.out_channels, in[0], node.kernel, node.kernel}, fan_in,
                                      fan_out));
    if (node.bias) {
      shape.parameters.push_back(
          Tensor(name, "bias", ParameterRole::kBias, {node.out_channels}, fan_in, fan_out));
    }
    return shape;
  }

  absl::StatusOr<Shape> operator()(const BatchNormNode& node) const {
    // Written so that NaN fails too.
    if (!(node.epsilon >= 0) || !(node.running_update_rate >= 0 && node.running_update_rate <= 1)) {
      return Misfit(name,
                    absl::StrCat("batch norm cannot have epsilon ", node.epsilon,
                                 " and running update rate ", node.running_update_rate,
                                 "; epsilon must not be negative, the rate must be from 0 to 1"));
    }
    const Dims channels = {in[0]};
    Shape shape;
    shape.out = in;
    if (node.affine) {
      shape.parameters.push_back(Tensor(name, "weight", ParameterRole::kGamma, channels));
      shape.parameters.push_back(Tensor(name, "bias", ParameterRole::kBeta, channels));
    }
    shape.state.push_back(Tensor(name, "running_mean", ParameterRole::kRunningMean, channels));
    shape.state.push_back(Tensor(name, "running_var", ParameterRole::kRunningVar, channels));
    return shape;
  }

  absl::StatusOr<Shape> operator()(const ActivationNode&) const { return Shape{in, {}, {}}; }

  absl::StatusOr<Shape> operator()(const PoolNode& node) const {
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
    return Shape{
        {in[0], (in[1] - node.window) / node.stride + 1, (in[2] - node.window) / node.stride + 1},
        {},
        {}};
  }

  absl::StatusOr<Shape> operator()(const FlattenNode&) const {
    return Shape{{ElementCount(in)}, {}, {}};
  }

  absl::StatusOr<Shape> operator()(const SoftmaxCrossEntropyNode&) const {
    if (in.size() != 1) {
      return Misfit(name,
                    absl::StrCat("the loss needs one logit per class, but gets ", DimsToString(in),
                                 "; put flatten and linear layers before it"));
    }
    return Shape{{}, {}, {}};
  }
};

}  // namespace

int64_t ElementCount(const Dims& dims) {
  int64_t count = 1;
  for (const int64_t dim : dims) {
    count = SaturatingProduct(count, dim);
  }
  return count;
}

std::string DimsToString(const Dims& dims) {
  return dims.empty() ? "scalar" : absl::StrJoin(dims, "x");
}

absl::Status Graph::Add(std::string name, NodeKind kind) {
  if (name.empty()) {
    return Misfit("(unnamed)", "a layer needs a name");
  }
  for (const Node& node : nodes_) {
    if (node.name == name) {
      return Misfit(name, "the name is used twice; give every layer its own");
    }
  }
  if (!nodes_.empty() && std::holds_alternative<SoftmaxCrossEntropyNode>(nodes_.back().kind)) {
    return Misfit(name, "no layer can follow the loss; add it before");
  }
  const Dims& in = output();
  if (in.empty() || ElementCount(in) > kMaxElements ||
      std::any_of(in.begin(), in.end(), [](int64_t dim) { return dim < 1; })) {
    return Misfit(name, absl::StrCat("cannot work on an input of shape ", DimsToString(in)));
  }
  NORMLAB_ASSIGN_OR_RETURN(Shape shape, std::visit(Infer{name, in}, kind));
  if (ElementCount(shape.out) > kMaxElements) {
    return Misfit(name, absl::StrCat("its output of ", DimsToString(shape.out),
                                     " is too large for any machine; make the layer smaller"));
  }
  int64_t parameter_floats = parameter_floats_;
  for (ParameterSpec& spec : shape.parameters) {
    spec.offset = parameter_floats;
    if (spec.count > kMaxElements || parameter_floats > kMaxElements) {
      return Misfit(name,
                    absl::StrCat(spec.name, " of ", DimsToString(spec.dims),
                                 " makes the model too large for any machine; make it smaller"));
    }
    parameter_floats += AlignUp(spec.count);
  }
  for (ParameterSpec& spec : shape.state) {
    spec.offset = state_floats_;
    state_floats_ += AlignUp(spec.count);
  }
  parameter_floats_ = parameter_floats;
  std::move(shape.parameters.begin(), shape.parameters.end(), std::back_inserter(parameters_));
  std::move(shape.state.begin(), shape.state.end(), std::back_inserter(state_));
  Dims input = in;  // a copy: `in` refers into nodes_
  nodes_.push_back({std::move(name), kind, std::move(input), std::move(shape.out)});
  return absl::OkStatus();
}

int64_t Graph::parameter_count() const {
  int64_t count = 0;
  for (const ParameterSpec& spec : parameters_) {
    count += spec.count;
  }
  return count;
}

int64_t Graph::multiply_adds() const {
  int64_t sum = 0;
  for (const Node& node : nodes_) {
    int64_t added = 0;
    if (std::holds_alternative<LinearNode>(node.kind)) {
      added = SaturatingProduct(node.in[0], node.out[0]);
    } else if (const auto* conv = std::get_if<ConvNode>(&node.kind)) {
      const int64_t filter = SaturatingProduct(node.in[0], conv->kernel * conv->kernel);
      added = SaturatingProduct(filter, ElementCount(node.out));
    }
    if (__builtin_add_overflow(sum, added, &sum)) {
      return std::numeric_limits<int64_t>::max();
    }
  }
  return sum;
}

}  // namespace normlab::engine
