#include "engine/graph/plan_estimate.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <optional>
#include <vector>

#include "engine/graph/kernel_memory.h"
#include "engine/graph/saturating.h"

namespace normlab::engine {
namespace {

constexpr int64_t kFloat = sizeof(float);
constexpr int64_t kBf16 = 2;
// Buffers of different sizes and lifetimes leave gaps between each other: an eighth.
constexpr int64_t kGaps = 8;
// One buffer's rounding up to cache lines, and the small vectors of a layer (statistics).
constexpr int64_t kBytesPerNode = int64_t{4} << 10;

// Of one example, its channels in whole blocks.
Saturating PaddedElements(const Dims& dims) {
  if (dims.size() != 3) {
    return ElementCount(dims);
  }
  return Saturating(PadChannels(dims[0])) * dims[1] * dims[2];
}

bool IsNormalizerOfExamples(const NodeKind& kind) {
  return std::holds_alternative<GroupNormNode>(kind) || std::holds_alternative<RmsNormNode>(kind) ||
         std::holds_alternative<FilterResponseNode>(kind);
}

// Batch norm by oneDNN, which takes bf16 as well.
bool IsPlainBatchNorm(const NodeKind& kind) {
  return std::holds_alternative<BatchNormNode>(kind);
}

bool IsOtherNormalizer(const NodeKind& kind) {
  return IsNormalizerOfExamples(kind) || std::holds_alternative<NoisyBatchNormNode>(kind) ||
         std::holds_alternative<BatchRenormNode>(kind) ||
         std::holds_alternative<GhostBatchNormNode>(kind) ||
         std::holds_alternative<LpBatchNormNode>(kind) ||
         std::holds_alternative<DynamicTanhNode>(kind) ||
         std::holds_alternative<MeanOnlyBatchNormNode>(kind) ||
         std::holds_alternative<FrozenBatchNormNode>(kind);
}

// The passes of a plan, each at a time of its own: node i forwards at i, backwards at 3n - 2i. Of a
// convolution that is the pass of the weights; that of its input comes next.
class Walk {
 public:
  Walk(const Graph& graph, const PlanSize& size)
      : graph_(graph),
        size_(size),
        nodes_(graph.nodes().size()),
        outputs_(nodes_),
        gradients_(nodes_),
        sums_itself_(nodes_),
        needs_gradient_(nodes_, false),
        uses_(graph.UseCounts()),
        has_parameters_(graph.HaveParameters()) {}

  PlanEstimate Run() {
    kept_ += Saturating(size_.batch) * (ElementCount(graph_.input()) + Saturating(1)) * kFloat;
    for (size_t i = 0; i < nodes_; ++i) {
      Forward(i);
    }
    if (size_.training) {
      for (size_t i = nodes_; i-- > 0;) {
        if (needs_gradient_[i]) {
          Backward(i);
        }
      }
    }
    // All refreshes of weights share one piece, which lives as long as the plan.
    weights_ += refresh_scratch_;
    const Saturating peak = Peak();
    const Saturating total = kept_ + peak + peak.value() / kGaps +
                             Saturating(static_cast<int64_t>(nodes_)) * kBytesPerNode;
    return {total.value(), weights_.value()};
  }

 private:
  struct Buffer {
    Saturating bytes;
    int64_t first = 0;
    int64_t last = 0;
  };
  // What a node's output is.
  struct Output {
    int buffer = -1;       // negative: the network's input
    bool blocked = false;  // its channels may lie in blocks
    int64_t element = kFloat;
  };

  const Node& At(size_t i) const { return graph_.nodes()[i]; }
  int64_t BackwardTime(size_t i) const { return static_cast<int64_t>(3 * nodes_ - 2 * i); }

  int Reserve(Saturating bytes, int64_t time) {
    buffers_.push_back({bytes, time, time});
    return static_cast<int>(buffers_.size()) - 1;
  }
  void Use(int buffer, int64_t time) {
    if (buffer >= 0) {
      int64_t& last = buffers_[static_cast<size_t>(buffer)].last;
      last = std::max(last, time);
    }
  }

  Output InputOf(const Node& node, size_t i = 0) const {
    const int from = node.inputs[i];
    return from == kGraphInput ? Output() : outputs_[static_cast<size_t>(from)];
  }
  Saturating Bytes(const Dims& dims, bool blocked, int64_t element) const {
    return Saturating(size_.batch) *
           (blocked ? PaddedElements(dims) : Saturating(ElementCount(dims))) * element;
  }
  Saturating OutputBytes(size_t i) const {
    return Bytes(At(i).out, outputs_[i].blocked, outputs_[i].element);
  }

  // Whether the activation after node i, a ReLU, is computed with it.
  bool FusesRelu(size_t i) const {
    if (i + 1 >= nodes_ || uses_[i] != 1 || At(i + 1).inputs[0] != static_cast<int>(i)) {
      return false;
    }
    const auto* activation = std::get_if<ActivationNode>(&At(i + 1).kind);
    return activation != nullptr && activation->kind == ActivationKind::kRelu;
  }

  void Forward(size_t i) {
    const Node& node = At(i);
    const auto time = static_cast<int64_t>(i);
    const int64_t later = size_.training ? BackwardTime(i) : time;
    needs_gradient_[i] = has_parameters_[i];
    for (size_t k = 0; k < node.inputs.size(); ++k) {
      Use(InputOf(node, k).buffer, time);
      needs_gradient_[i] =
          needs_gradient_[i] ||
          (node.inputs[k] != kGraphInput && needs_gradient_[static_cast<size_t>(node.inputs[k])]);
    }
    const Output x = InputOf(node);
    Output& y = outputs_[i];
    y = {.buffer = -1, .blocked = x.blocked, .element = x.element};
    if (std::holds_alternative<ConvNode>(node.kind) ||
        std::holds_alternative<LinearNode>(node.kind)) {
      ForwardWeights(i, x, later);
      return;
    }
    if (IsLoss(node.kind)) {
      // A copy of what it reads, and the probabilities.
      Use(Reserve(Bytes(node.in, false, kFloat) * 2, time), later + 1);
      return;
    }
    if (std::holds_alternative<AddNode>(node.kind)) {
      // Inputs in the order of the first.
      Reserve(Bytes(node.in, true, kFloat) * static_cast<int64_t>(node.inputs.size() - 1), time);
    } else if (std::holds_alternative<FlattenNode>(node.kind)) {
      y.blocked = false;
    } else if (std::holds_alternative<GlobalAveragePoolNode>(node.kind) ||
               std::holds_alternative<PadNode>(node.kind) ||
               std::holds_alternative<SubsampleNode>(node.kind)) {
      y = {.buffer = -1, .blocked = false, .element = kFloat};
      ConvertToFloat(node, x, time, time);
    } else if (std::holds_alternative<ScaleNode>(node.kind) ||
               std::holds_alternative<ScalarBiasNode>(node.kind)) {
      y.element = kFloat;
      ConvertToFloat(node, x, time, later);
      Use(x.buffer, later);
    } else if (IsPlainBatchNorm(node.kind)) {
      Use(x.buffer, later);
      if (node.in.size() == 1) {
        y.element = kFloat;
        ConvertToFloat(node, x, time, later);
      } else if (FusesRelu(i)) {
        Use(Reserve(Bytes(node.out, true, 1), time), later);  // up to a byte per element
      }
    } else if (IsOtherNormalizer(node.kind)) {
      y.element = kFloat;
      ForwardNormalizer(node, x, time, later);
    } else if (const auto* pool = std::get_if<PoolNode>(&node.kind)) {
      y.blocked = true;
      if (pool->kind == PoolKind::kMax && size_.training) {
        constexpr int64_t kLargestByteWindow = 15;
        Use(Reserve(Bytes(node.out, true, pool->window > kLargestByteWindow ? kFloat : 1), time),
            later);
      }
    } else if (const auto* activation = std::get_if<ActivationNode>(&node.kind)) {
      if (ForwardActivation(i, *activation, x, later)) {
        return;
      }
    }
    y.buffer = Reserve(OutputBytes(i), time);
    if (std::holds_alternative<AddNode>(node.kind) && FusesRelu(i)) {
      Use(y.buffer, later);
    }
  }

  // Returns whether it needs no memory of its own.
  bool ForwardActivation(size_t i, const ActivationNode& node, const Output& x, int64_t later) {
    if (node.kind == ActivationKind::kIdentity) {
      outputs_[i] = x;
      return true;
    }
    if (At(i).inputs[0] >= 0 && static_cast<size_t>(At(i).inputs[0]) + 1 == i && i > 0 &&
        FusesRelu(i - 1) &&
        (IsPlainBatchNorm(At(i - 1).kind) || IsOtherNormalizer(At(i - 1).kind) ||
         std::holds_alternative<AddNode>(At(i - 1).kind))) {
      outputs_[i] = x;
      return true;
    }
    outputs_[i].buffer = Reserve(OutputBytes(i), static_cast<int64_t>(i));
    Use(outputs_[i].buffer, later);
    const bool needs_input = node.kind == ActivationKind::kGelu ||
                             node.kind == ActivationKind::kSilu ||
                             node.kind == ActivationKind::kSelu;
    if (needs_input) {
      Use(x.buffer, later);
    }
    return true;
  }

  void ConvertToFloat(const Node& node, const Output& x, int64_t time, int64_t last) {
    if (x.element != kFloat) {
      Use(Reserve(Bytes(node.in, x.blocked, kFloat), time), last);
    }
  }

  void ForwardNormalizer(const Node& node, const Output& x, int64_t time, int64_t later) {
    Use(x.buffer, later);
    ConvertToFloat(node, x, time, later);
    // Tables of a few numbers per example and channel.
    constexpr int64_t kTableBytes = 40;
    Reserve(Saturating(size_.batch) * PadChannels(node.in[0]) * kTableBytes, time);
    if (IsNormalizerOfExamples(node.kind)) {
      // In plain layouts, before gamma and beta.
      Use(Reserve(Bytes(node.in, x.blocked, kFloat), time), x.blocked ? time : later);
    }
  }

  // Linear layers and convolutions.
  void ForwardWeights(size_t i, const Output& x, int64_t later) {
    const Node& node = At(i);
    const auto time = static_cast<int64_t>(i);
    const auto* conv = std::get_if<ConvNode>(&node.kind);
    const int64_t element = size_.bf16 ? kBf16 : kFloat;
    outputs_[i] = {.buffer = -1, .blocked = conv != nullptr, .element = element};
    outputs_[i].buffer = Reserve(OutputBytes(i), time);
    const bool copies = x.element != element || (conv != nullptr && !x.blocked);
    if (copies) {
      Use(Reserve(Bytes(node.in, conv != nullptr, element), time), later);
    } else {
      Use(x.buffer, later);
    }
    const Saturating weights = WeightElements(node);
    const bool plain_copy = TransformOf(node) != WeightTransform::kNone;
    if (conv == nullptr && size_.training && !size_.bf16) {
      // Linear layers train on the weights as they are.
    } else if (size_.training) {
      weights_ += weights * 2 * element;  // for the forward pass and for the gradient of the input
    } else {
      const bool winograd = MayUseWinograd(node, size_, WeightPass::kOther);
      const Saturating copy = weights * element * (winograd ? kWinogradGrowth : 1);
      weights_ += copy;
      refresh_scratch_ = Larger(refresh_scratch_, copy);  // making it may take as much again
    }
    weights_ += plain_copy ? weights * kFloat : Saturating(0);
    Reserve(KernelScratch(node, size_, WeightPass::kOther), time);
  }

  void Backward(size_t i) {
    const Node& node = At(i);
    int64_t time = BackwardTime(i);
    const bool weights = std::holds_alternative<ConvNode>(node.kind) ||
                         std::holds_alternative<LinearNode>(node.kind);
    const std::optional<int> d_y = gradients_[i];
    if (d_y.has_value()) {
      Use(*d_y, time);
      // It may have to be brought into another order.
      Reserve(Bytes(node.out, weights || outputs_[i].blocked, outputs_[i].element), time);
    }
    if (weights) {
      // Their gradient in another order than the model's, and before a transformation's.
      const bool conv = std::holds_alternative<ConvNode>(node.kind);
      const int64_t copies = (conv ? 1 : 0) + (TransformOf(node) != WeightTransform::kNone ? 1 : 0);
      Reserve(KernelScratch(node, size_, WeightPass::kGradientOfWeights) +
                  WeightElements(node) * copies * kFloat,
              time);
      // It may be computed from other copies than the forward pass made.
      if (conv) {
        Reserve(Bytes(node.in, true, kFloat), time);
      }
    }
    const bool wants = std::any_of(node.inputs.begin(), node.inputs.end(), [this](int from) {
      return from != kGraphInput && needs_gradient_[static_cast<size_t>(from)];
    });
    if (!wants) {
      return;
    }
    if (std::holds_alternative<ConvNode>(node.kind)) {
      ++time;
      if (d_y.has_value()) {
        Use(*d_y, time);
        Reserve(Bytes(node.out, true, outputs_[i].element), time);
      }
    }
    const bool passes_on = (std::holds_alternative<AddNode>(node.kind) && !FusesRelu(i)) ||
                           std::holds_alternative<ScalarBiasNode>(node.kind) ||
                           std::holds_alternative<FlattenNode>(node.kind) ||
                           (std::holds_alternative<ActivationNode>(node.kind) &&
                            outputs_[i].buffer >= 0 && outputs_[i].buffer == InputOf(node).buffer);
    if (weights) {
      Reserve(KernelScratch(node, size_, WeightPass::kOther), time);
    }
    int d_x = -1;
    if (passes_on && d_y.has_value()) {
      d_x = *d_y;
    } else {
      const Output x = InputOf(node);
      d_x = Reserve(Bytes(node.in, x.blocked || weights, x.element), time);
      if (IsNormalizerOfExamples(node.kind)) {
        Reserve(Bytes(node.in, x.blocked, kFloat), time);
      }
    }
    for (const int from : node.inputs) {
      if (from != kGraphInput && needs_gradient_[static_cast<size_t>(from)]) {
        Send(static_cast<size_t>(from), d_x, time);
      }
    }
  }

  // One more reader of a node sends a gradient back.
  void Send(size_t to, int d_x, int64_t time) {
    std::optional<int>& sum = gradients_[to];
    if (!sum.has_value()) {
      sum = d_x;
      return;
    }
    // The end of a residual block adds two itself.
    if (to > 0 && std::holds_alternative<AddNode>(At(to - 1).kind) && FusesRelu(to - 1) &&
        !sums_itself_[to]) {
      sums_itself_[to] = true;
      Use(d_x, BackwardTime(to - 1));
      return;
    }
    Use(*sum, time);
    Use(d_x, time);
    sum = Reserve(OutputBytes(to), time);
  }

  // Most bytes at one time.
  Saturating Peak() const {
    std::vector<const Buffer*> ends;
    ends.reserve(buffers_.size());
    for (const Buffer& buffer : buffers_) {
      ends.push_back(&buffer);
    }
    std::vector<const Buffer*> starts = ends;
    std::sort(starts.begin(), starts.end(),
              [](const Buffer* a, const Buffer* b) { return a->first < b->first; });
    std::sort(ends.begin(), ends.end(),
              [](const Buffer* a, const Buffer* b) { return a->last < b->last; });
    // As saturated numbers cannot be subtracted again, a sum that saturates is the answer.
    int64_t live = 0;
    int64_t peak = 0;
    size_t ended = 0;
    for (const Buffer* buffer : starts) {
      for (; ends[ended]->last < buffer->first; ++ended) {
        live -= ends[ended]->bytes.value();
      }
      if (__builtin_add_overflow(live, buffer->bytes.value(), &live)) {
        return std::numeric_limits<int64_t>::max();
      }
      peak = std::max(peak, live);
    }
    return peak;
  }

  const Graph& graph_;
  const PlanSize& size_;
  const size_t nodes_;
  std::vector<Output> outputs_;
  std::vector<std::optional<int>> gradients_;  // with respect to the outputs
  std::vector<bool> sums_itself_;              // takes a second gradient as it is
  std::vector<bool> needs_gradient_;           // a parameter lies in it or before it
  const std::vector<int> uses_;
  const std::vector<bool> has_parameters_;
  std::vector<Buffer> buffers_;
  Saturating kept_;
  Saturating weights_;
  Saturating refresh_scratch_;
};

}  // namespace

PlanEstimate EstimatePlan(const Graph& graph, const PlanSize& size) {
  return Walk(graph, size).Run();
}

}  // namespace normlab::engine
