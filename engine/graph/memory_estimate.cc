#include "engine/graph/memory_estimate.h"

#include <algorithm>
#include <cstdint>
#include <limits>

namespace normlab::engine {
namespace {

// Code, libraries, gRPC and stacks of a worker, before any model; generated kernels and heap arenas
// grow with threads.
constexpr int64_t kProcessBytes = int64_t{96} << 20;
constexpr int64_t kBytesPerThread = int64_t{8} << 20;
// One buffer's rounding up to cache lines and pages, and the small vectors of a layer (statistics).
constexpr int64_t kBytesPerNode = int64_t{64} << 10;

// A non-negative count that stays at the largest value instead of overflowing.
class Saturating {
 public:
  Saturating(int64_t value) : value_(value) {}  // NOLINT: meant to convert
  int64_t value() const { return value_; }

  friend Saturating operator+(Saturating a, Saturating b) {
    int64_t sum = 0;
    return __builtin_add_overflow(a.value_, b.value_, &sum) ? Max() : sum;
  }
  friend Saturating operator*(Saturating a, Saturating b) {
    int64_t product = 0;
    return __builtin_mul_overflow(a.value_, b.value_, &product) ? Max() : product;
  }
  Saturating& operator+=(Saturating other) { return *this = *this + other; }

 private:
  static int64_t Max() { return std::numeric_limits<int64_t>::max(); }
  int64_t value_;
};

Saturating Larger(Saturating a, Saturating b) {
  return std::max(a.value(), b.value());
}

// Images may be stored in blocks of 16 channels.
int64_t PadChannels(int64_t channels) {
  return channels > std::numeric_limits<int64_t>::max() - 15 ? channels : (channels + 15) / 16 * 16;
}

// Floats of one example in its largest layout.
Saturating PaddedElements(const Dims& dims) {
  if (dims.size() != 3) {
    return ElementCount(dims);
  }
  return Saturating(PadChannels(dims[0])) * dims[1] * dims[2];
}

// Floats that Winograd's F(4x4, 3x3) has beside its arguments: every tile of 4x4 outputs as 36
// transformed values of each channel in and out, and the transformed weights, in the gradient of the
// weights once a thread.
Saturating WinogradScratch(const Node& node, int64_t batch, int threads) {
  constexpr int64_t kTile = 4;
  constexpr int64_t kTransformed = 36;
  const Saturating in = PadChannels(node.in[0]);
  const Saturating out = PadChannels(node.out[0]);
  const Saturating tiles =
      Saturating(batch) * ((node.out[1] + kTile - 1) / kTile) * ((node.out[2] + kTile - 1) / kTile);
  return Saturating(kTransformed) * ((in + out) * tiles + in * out * (Saturating(threads) + 2));
}

struct PlanEstimate {
  Saturating activations = 0;  // floats
  Saturating weights = 0;      // floats of working copies
};

// Floats of one plan. Every term is an upper bound: copies in another layout are counted wherever
// there might be one.
PlanEstimate EstimatePlan(const Graph& graph, int64_t batch, int threads, bool training) {
  PlanEstimate estimate;
  estimate.activations = Saturating(batch) * (ElementCount(graph.input()) + Saturating(1));
  Saturating largest_activation = 0;
  Saturating largest_weight = 0;
  Saturating largest_scratch = 0;
  for (const Node& node : graph.nodes()) {
    const Saturating in = Saturating(batch) * PaddedElements(node.in);
    const Saturating out = Saturating(batch) * PaddedElements(node.out);
    Saturating kept = out;
    Saturating scratch = 0;
    if (const auto* conv = std::get_if<ConvNode>(&node.kind)) {
      const Saturating filter = Saturating(PadChannels(node.in[0])) * conv->kernel * conv->kernel;
      const Saturating weight = filter * PadChannels(node.out[0]);
      // A copy for the forward pass and one for the gradient of the input.
      estimate.weights += weight * (training ? 2 : 1);
      largest_weight = Larger(largest_weight, weight);
      kept += in;
      // Partial weight gradients of every thread, or the unfolded image of each.
      scratch = Saturating(threads + 1) * (weight + filter * node.out[1] * node.out[2]);
      if (conv->kernel == 3 && conv->stride == 1) {
        scratch = Larger(scratch, WinogradScratch(node, batch, threads));
      }
    } else if (std::holds_alternative<LinearNode>(node.kind)) {
      const Saturating weight = Saturating(PadChannels(node.in[0])) * PadChannels(node.out[0]);
      estimate.weights += weight * (training ? 2 : 1);
      largest_weight = Larger(largest_weight, weight);
      scratch = in + out + Saturating(threads + 1) * weight;
    } else if (std::holds_alternative<BatchNormNode>(node.kind)) {
      // A fused ReLU keeps up to a byte per element.
      kept += Saturating(out.value() / 4) + Saturating(8) * PadChannels(node.in[0]);
      scratch = Saturating(threads + 4) * 4 * PadChannels(node.in[0]);
    } else if (std::holds_alternative<PoolNode>(node.kind)) {
      kept += out;
    } else if (std::holds_alternative<SoftmaxCrossEntropyNode>(node.kind)) {
      kept = in * 3;
    }
    estimate.activations += kept;
    largest_activation = Larger(largest_activation, Larger(in, out));
    largest_scratch = Larger(largest_scratch, scratch);
  }
  if (training) {
    // Two gradients that take turns, and a copy each of a source and a gradient; one weight
    // gradient in another layout.
    estimate.activations += largest_activation * 4;
    estimate.weights += largest_weight;
  } else {
    estimate.activations += largest_activation;
  }
  estimate.activations += largest_scratch;
  return estimate;
}

}  // namespace

MemoryEstimate EstimateMemory(const Graph& graph, const MemoryInputs& inputs) {
  constexpr int64_t kFloat = sizeof(float);
  struct PlanSize {
    int64_t batch;
    bool training;
  };
  const auto or_full = [](int64_t last, int64_t full) { return last < 0 ? full : last; };
  const PlanSize plans[] = {
      {inputs.batch_size, true},
      {or_full(inputs.last_batch_size, inputs.batch_size), true},
      {inputs.evaluation_batch_size, false},
      {or_full(inputs.evaluation_last_batch_size, inputs.evaluation_batch_size), false}};
  Saturating activations = 0;
  Saturating weights = 0;
  Saturating overhead = 0;
  for (const PlanSize& plan : plans) {
    if (plan.batch > 0) {
      const PlanEstimate estimate = EstimatePlan(graph, plan.batch, inputs.threads, plan.training);
      activations += estimate.activations;
      weights += estimate.weights;
      overhead += Saturating(static_cast<int64_t>(graph.nodes().size())) * kBytesPerNode;
    }
  }

  MemoryEstimate estimate;
  // Parameters, gradients, one copy while a checkpoint is written, and the optimizer's slots.
  const Saturating copies = Saturating(3) + inputs.optimizer_slots;
  estimate.parameters =
      ((copies * graph.parameter_floats() + Saturating(2) * graph.state_floats() + weights) *
       kFloat)
          .value();
  estimate.activations = (activations * kFloat + overhead).value();
  estimate.data = inputs.data_bytes;
  estimate.fixed =
      (Saturating(kProcessBytes) + Saturating(inputs.threads) * kBytesPerThread).value();
  return estimate;
}

int64_t MemoryEstimate::total() const {
  return (Saturating(parameters) + activations + data + fixed).value();
}

}  // namespace normlab::engine
