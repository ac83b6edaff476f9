#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "engine/graph/node.h"

namespace normlab::engine {

// Product of the sizes, 1 for a scalar; saturates.
int64_t ElementCount(const Dims& dims);

// "3x32x32", or "scalar", for messages.
std::string DimsToString(const Dims& dims);

enum class ParameterRole {
  kWeight,  // the only ones that an initializer draws, and that weight decay cannot be exempt from
  kBias,
  kGamma,
  kBeta,
  kGain,       // g of weight norm
  kThreshold,  // tau of filter response normalization
  kAlpha,      // of DyT
  kScale,      // a scalar multiplier
  kRunningMean,
  kRunningVar,  // or running_scale
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
  // How it starts: at `constant`, else drawn from N(0, std^2), else as the initializer says.
  std::optional<float> constant;
  std::optional<double> std;
  double scale = 1;  // multiplies what is drawn
};

struct Node {
  std::string name;  // unique; "fc1", "bn1", "conv2", "layer1.0.conv1", "loss"
  NodeKind kind;
  std::vector<int> inputs;  // positions of the nodes it reads; kGraphInput: the network's input
  Dims in;                  // shape of its (first) input
  Dims out;                 // shape of its output
};

inline constexpr int kGraphInput = -1;
// What nodes call the network's input.
inline constexpr char kGraphInputName[] = "input";

// A network as pure data: layers, edges, shapes, parameters and costs, no oneDNN. Nodes are in an
// order in which they can be computed. Thread-compatible value type.
class Graph {
 public:
  explicit Graph(Dims input) : input_(std::move(input)) {}

  // Appends a node that reads the nodes named by `inputs` ("input": the network's input; empty: the
  // node before) and infers its shape. INVALID_ARGUMENT, naming the layer and the shapes, when it
  // does not fit its input (a kernel larger than the padded image, a linear layer on an image
  // without flatten, pooling below 1x1, a sum of different shapes); then the graph is unchanged. A
  // loss is refused while another node's output is used by nobody.
  absl::Status Add(std::string name, NodeKind kind, const std::vector<std::string>& inputs = {});

  const Dims& input() const { return input_; }
  const Dims& output() const { return nodes_.empty() ? input_ : nodes_.back().out; }
  const std::vector<Node>& nodes() const { return nodes_; }
  // Null when there is no such node.
  const Node* Find(absl::string_view name) const;
  // How many inputs of nodes each node's output is, by position.
  std::vector<int> UseCounts() const;
  // Whether a node owns trainable tensors, by position.
  std::vector<bool> HaveParameters() const;
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
  absl::StatusOr<std::vector<int>> Positions(absl::string_view name,
                                             const std::vector<std::string>& inputs) const;
  absl::Status CheckUse(absl::string_view name, const std::vector<int>& inputs) const;

  Dims input_;
  std::vector<Node> nodes_;
  std::map<std::string, int, std::less<>> positions_;  // by name
  std::vector<ParameterSpec> parameters_;
  std::vector<ParameterSpec> state_;
  int64_t parameter_floats_ = 0;
  int64_t state_floats_ = 0;
};

}  // namespace normlab::engine
