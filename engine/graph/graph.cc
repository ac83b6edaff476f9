#include "engine/graph/graph.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/status_macros.h"
#include "engine/graph/infer.h"

namespace normlab::engine {
namespace {

constexpr int64_t kAlignmentFloats = 16;

int64_t AlignUp(int64_t floats) {
  return (floats + kAlignmentFloats - 1) / kAlignmentFloats * kAlignmentFloats;
}

}  // namespace

bool IsLoss(const NodeKind& kind) {
  return std::holds_alternative<SoftmaxCrossEntropyNode>(kind) ||
         std::holds_alternative<SquaredErrorNode>(kind);
}

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

const Node* Graph::Find(absl::string_view name) const {
  const auto found = positions_.find(name);
  return found == positions_.end() ? nullptr : &nodes_[static_cast<size_t>(found->second)];
}

std::vector<int> Graph::UseCounts() const {
  std::vector<int> counts(nodes_.size());
  for (const Node& node : nodes_) {
    for (const int input : node.inputs) {
      if (input != kGraphInput) {
        ++counts[static_cast<size_t>(input)];
      }
    }
  }
  return counts;
}

absl::StatusOr<std::vector<int>> Graph::Positions(absl::string_view name,
                                                  const std::vector<std::string>& inputs) const {
  if (inputs.empty()) {
    return std::vector<int>{static_cast<int>(nodes_.size()) - 1};  // kGraphInput for the first node
  }
  std::vector<int> positions;
  for (const std::string& input : inputs) {
    const auto found = positions_.find(input);
    if (found != positions_.end()) {
      positions.push_back(found->second);
    } else if (input == kGraphInputName) {
      positions.push_back(kGraphInput);
    } else {
      return Misfit(name, absl::StrCat("reads ", input,
                                       ", which no layer before it is called; name an earlier "
                                       "layer, or input"));
    }
  }
  return positions;
}

absl::Status Graph::CheckUse(absl::string_view name, const std::vector<int>& inputs) const {
  const std::vector<int> uses = UseCounts();
  for (size_t i = 0; i < uses.size(); ++i) {
    if (uses[i] == 0 &&
        std::find(inputs.begin(), inputs.end(), static_cast<int>(i)) == inputs.end()) {
      return Misfit(nodes_[i].name, absl::StrCat("its output is used by no layer before ", name,
                                                 "; remove it, or name it as an input"));
    }
  }
  return absl::OkStatus();
}

absl::Status Graph::Add(std::string name, NodeKind kind, const std::vector<std::string>& inputs) {
  if (name.empty()) {
    return Misfit("(unnamed)", "a layer needs a name");
  }
  if (positions_.contains(name)) {
    return Misfit(name, "the name is used twice; give every layer its own");
  }
  if (name == kGraphInputName) {
    return Misfit(name, "the network's input is called so; use another name");
  }
  if (!nodes_.empty() && IsLoss(nodes_.back().kind)) {
    return Misfit(name, "no layer can follow the loss; add it before");
  }
  NORMLAB_ASSIGN_OR_RETURN(std::vector<int> positions, Positions(name, inputs));
  std::vector<Dims> in;
  for (const int position : positions) {
    in.push_back(position == kGraphInput ? input_ : nodes_[static_cast<size_t>(position)].out);
    const Dims& dims = in.back();
    if (dims.empty() || ElementCount(dims) > kMaxElements ||
        std::any_of(dims.begin(), dims.end(), [](int64_t dim) { return dim < 1; })) {
      return Misfit(name, absl::StrCat("cannot work on an input of shape ", DimsToString(dims)));
    }
  }
  if (IsLoss(kind)) {
    NORMLAB_RETURN_IF_ERROR(CheckUse(name, positions));
  }
  NORMLAB_ASSIGN_OR_RETURN(InferredNode inferred, InferNode(name, kind, in));
  if (ElementCount(inferred.out) > kMaxElements) {
    return Misfit(name, absl::StrCat("its output of ", DimsToString(inferred.out),
                                     " is too large for any machine; make the layer smaller"));
  }
  int64_t parameter_floats = parameter_floats_;
  for (ParameterSpec& spec : inferred.parameters) {
    spec.offset = parameter_floats;
    if (spec.count > kMaxElements || parameter_floats > kMaxElements) {
      return Misfit(name,
                    absl::StrCat(spec.name, " of ", DimsToString(spec.dims),
                                 " makes the model too large for any machine; make it smaller"));
    }
    parameter_floats += AlignUp(spec.count);
  }
  for (ParameterSpec& spec : inferred.state) {
    spec.offset = state_floats_;
    state_floats_ += AlignUp(spec.count);
  }
  parameter_floats_ = parameter_floats;
  std::move(inferred.parameters.begin(), inferred.parameters.end(),
            std::back_inserter(parameters_));
  std::move(inferred.state.begin(), inferred.state.end(), std::back_inserter(state_));
  positions_.emplace(name, static_cast<int>(nodes_.size()));
  nodes_.push_back({std::move(name), std::move(kind), std::move(positions), std::move(in[0]),
                    std::move(inferred.out)});
  return absl::OkStatus();
}

std::vector<bool> Graph::HaveParameters() const {
  std::vector<bool> have(nodes_.size(), false);
  for (const ParameterSpec& spec : parameters_) {
    // Names of tensors have no dot.
    const auto owner = positions_.find(spec.name.substr(0, spec.name.rfind('.')));
    if (owner != positions_.end()) {
      have[static_cast<size_t>(owner->second)] = true;
    }
  }
  return have;
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
      const int64_t filter =
          SaturatingProduct(node.in[0] / conv->groups, conv->kernel * conv->kernel);
      added = SaturatingProduct(filter, ElementCount(node.out));
    }
    if (__builtin_add_overflow(sum, added, &sum)) {
      return std::numeric_limits<int64_t>::max();
    }
  }
  return sum;
}

}  // namespace normlab::engine
