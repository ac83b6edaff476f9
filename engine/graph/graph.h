#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace normlab::engine {

// Sizes of one example, without the batch dimension: [C, H, W] for images, [D] for dense features.
using Dims = std::vector<int64_t>;

// Product of the sizes, 1 for a scalar; saturates.
int64_t ElementCount(const Dims& dims);

// "3x32x32", or "scalar", for messages.
std::string DimsToString(const Dims& dims);

enum class ActivationKind { kIdentity, kRelu, kSigmoid, kTanh };
enum class PoolKind { kMax, kAverage };

// y = W x + b; weight [out, in], bias [out].
struct LinearNode {
  int64_t out = 0;
  bool bias = true;
};

// Square kernel; weight [O, I, KH, KW], bias [O].
struct ConvNode {
  int64_t out_channels = 0;
  int64_t kernel = 3;
  int64_t stride = 1;
  int64_t padding = 1;
  bool bias = true;
};

// Over N (and H, W), per channel or feature. Parameters gamma [C], beta [C] when affine; state
// running_mean [C], running_var [C].
struct BatchNormNode {
  double epsilon = 1e-5;
  double running_update_rate = 0.1;  // weight of the NEW batch
  bool affine = true;
};

struct ActivationNode {
  ActivationKind kind = ActivationKind::kRelu;
};

// Windows that do not fit are dropped (floor), as in PyTorch; no padding.
struct PoolNode {
  PoolKind kind = PoolKind::kMax;
  int64_t window = 2;
  int64_t stride = 2;
};

struct FlattenNode {};

// Mean over the batch of -log softmax(logits)[label]. Always the last node; its output is a scalar.
struct SoftmaxCrossEntropyNode {};

using NodeKind = std::variant<LinearNode,
                              ConvNode,
                              BatchNormNode,
                              ActivationNode,
                              PoolNode,
                              FlattenNode,
                              SoftmaxCrossEntropyNode>;

enum class ParameterRole {
  kWeight,
  kBias,
  kGamma,
  kBeta,
  kGain,       // g of weight norm
  kThreshold,  // tau of filter response norm
  kAlpha,      // of dynamic tanh
  kScale,      // scalar multipliers
  kRunningMean,
  kRunningVar
};

// A parameter or state tensor of a layer, in plain layout.
struct ParameterSpec {
  std::string name;  // "<layer>.weight", "<layer>.bias", "<layer>.running_mean", ... as a PyTorch
                     // user expects
  ParameterRole role = ParameterRole::kWeight;
  Dims dims;
  int64_t fan_in = 0;  // of the weight layer; 0 for others
  int64_t fan_out = 0;
  int64_t offset = 0;  // in floats, in the flat arena of parameters (or of state); multiples of 16
  int64_t count = 0;
  // Initial value of every element; absent: drawn, or what the role starts with.
  std::optional<float> constant;
  // Drawn from N(0, std^2), whatever the initializer says.
  std::optional<double> std;
  // Multiplies values that are drawn.
  double scale = 1;
};

struct Node {
  std::string name;  // unique; "fc1", "bn1", "conv2", "act1", "pool1", "loss"
  NodeKind kind;
  Dims in;   // shape of its input
  Dims out;  // shape of its output
};

// A chain of layers as pure data: shapes, parameters and costs, no oneDNN. Node i reads the output
// of node i-1. Thread-compatible value type.
class Graph {
 public:
  explicit Graph(Dims input) : input_(std::move(input)) {}

  // Appends a node and infers its shape. INVALID_ARGUMENT, naming the layer and the shapes, when it
  // does not fit its input (a kernel larger than the padded image, a linear layer on an image
  // without flatten, pooling below 1x1).
  absl::Status Add(std::string name, NodeKind kind);

  const Dims& input() const { return input_; }
  const Dims& output() const { return nodes_.empty() ? input_ : nodes_.back().out; }
  const std::vector<Node>& nodes() const { return nodes_; }
  // Trainable tensors, in node order; offsets are in one flat arena.
  const std::vector<ParameterSpec>& parameters() const { return parameters_; }
  // Running statistics, likewise in an arena of their own.
  const std::vector<ParameterSpec>& state() const { return state_; }
  // Sizes of the two arenas in floats, alignment gaps included.
  int64_t parameter_floats() const { return parameter_floats_; }
  int64_t state_floats() const { return state_floats_; }
  // Trainable scalars, gaps excluded.
  int64_t parameter_count() const;
  // Multiply-adds of one example's forward pass (weight layers only).
  int64_t multiply_adds() const;

 private:
  Dims input_;
  std::vector<Node> nodes_;
  std::vector<ParameterSpec> parameters_;
  std::vector<ParameterSpec> state_;
  int64_t parameter_floats_ = 0;
  int64_t state_floats_ = 0;
};

struct MemoryEstimate {
  int64_t parameters = 0;   // parameters, gradients, optimizer state, working copies
  int64_t activations = 0;  // training plan and evaluation plan
  int64_t data = 0;         // decoded data set, mapped
  int64_t fixed = 0;        // process, oneDNN code, buffers
  int64_t total() const;    // saturates
};

struct MemoryInputs {
  int64_t batch_size = 0;
  int64_t evaluation_batch_size = 0;
  // Sizes of an incomplete last batch, which is planned too. 0: there is none; negative: unknown,
  // counted like a full one.
  int64_t last_batch_size = -1;
  int64_t evaluation_last_batch_size = -1;
  int optimizer_slots = 0;  // floats of optimizer state per parameter
  int64_t data_bytes = 0;
  int threads = 1;
};

// An upper estimate of the private memory of a training run, in bytes; saturates instead of
// overflowing.
MemoryEstimate EstimateMemory(const Graph& graph, const MemoryInputs& inputs);

}  // namespace normlab::engine
