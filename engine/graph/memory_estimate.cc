#include "engine/graph/memory_estimate.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "engine/graph/kernel_memory.h"
#include "engine/graph/plan_estimate.h"
#include "engine/graph/saturating.h"

namespace normlab::engine {
namespace {

// Code, libraries, gRPC and stacks of a worker, before any model; generated kernels and heap arenas
// grow with threads.
constexpr int64_t kProcessBytes = int64_t{96} << 20;
constexpr int64_t kBytesPerThread = int64_t{8} << 20;
// The MPI library of a rank, with what it keeps for each of the others.
constexpr int64_t kMpiBytes = int64_t{48} << 20;
constexpr int64_t kMpiBytesPerRank = int64_t{4} << 20;

// Every output and every gradient has memory of its own, often a copy in another layout too.
Saturating KeptByUnfusedPlan(const Graph& graph, Saturating examples) {
  constexpr int kTensorsPerNode = 4;
  Saturating floats = 0;
  for (const Node& node : graph.nodes()) {
    const bool image = node.out.size() == 3;
    const Saturating padded = image
                                  ? Saturating(PadChannels(node.out[0])) * node.out[1] * node.out[2]
                                  : Saturating(ElementCount(node.out));
    floats += padded * kTensorsPerNode;
  }
  // Gradients of weights are kept in the kernels' layouts too.
  constexpr int kWeightCopies = 3;
  return (floats * examples + Saturating(graph.parameter_floats()) * kWeightCopies) * sizeof(float);
}

}  // namespace

MemoryEstimate EstimateMemory(const Graph& graph, const MemoryInputs& inputs) {
  constexpr int64_t kFloat = sizeof(float);
  const auto or_full = [](int64_t last, int64_t full) { return last < 0 ? full : last; };
  const int64_t last_batch_size = or_full(inputs.last_batch_size, inputs.batch_size);
  std::vector<std::pair<int64_t, bool>> plans = {
      {inputs.batch_size, true},
      {last_batch_size, true},
      {inputs.evaluation_batch_size, false},
      {or_full(inputs.evaluation_last_batch_size, inputs.evaluation_batch_size), false}};
  if (inputs.probe_training || inputs.probe_unfused) {
    // An unfused plan has all that a fused one has (what it keeps besides is added below).
    const int copies = (inputs.probe_training ? 1 : 0) + (inputs.probe_unfused ? 1 : 0);
    for (int i = 0; i < copies; ++i) {
      plans.emplace_back(inputs.batch_size, true);
      plans.emplace_back(last_batch_size, true);
    }
  }
  if (inputs.probe_evaluation) {
    plans.emplace_back(inputs.batch_size > 0 ? inputs.batch_size : last_batch_size, false);
  }
  Saturating activations = 0;
  Saturating weights = 0;
  for (const auto& [batch, training] : plans) {
    if (batch > 0) {
      const PlanEstimate plan = EstimatePlan(graph, {.batch = batch,
                                                     .training = training,
                                                     .bf16 = inputs.bf16,
                                                     .winograd = inputs.winograd,
                                                     .threads = inputs.threads});
      activations += plan.activations;
      weights += plan.weights;
    }
  }

  if (inputs.probe_unfused) {
    activations += KeptByUnfusedPlan(graph, Saturating(inputs.batch_size) + last_batch_size);
  }

  MemoryEstimate estimate;
  // Parameters, gradients, one copy while a checkpoint is written, and the optimizer's slots.
  Saturating copies = Saturating(3) + inputs.optimizer_slots;
  if (inputs.probes) {
    copies += 2;
    copies += inputs.probe_vectors;
  }
  estimate.parameters = ((copies * graph.parameter_floats() +
                          Saturating(inputs.probes ? 4 : 2) * graph.state_floats()) *
                             kFloat +
                         weights)
                            .value();
  estimate.activations = activations.value();
  estimate.data = inputs.data_bytes;
  estimate.fixed =
      (Saturating(kProcessBytes) + Saturating(inputs.threads) * kBytesPerThread).value();
  if (inputs.ranks > 1) {
    const Saturating ranks = inputs.ranks;
    // Gradients of other ranks come into memory of their own.
    const Saturating sums = Saturating(graph.parameter_floats()) * kFloat;
    estimate.parameters = ((Saturating(estimate.parameters) + sums) * ranks).value();
    estimate.activations = (activations * ranks).value();
    estimate.fixed =
        ((Saturating(estimate.fixed) + kMpiBytes + ranks * kMpiBytesPerRank) * ranks).value();
  }
  return estimate;
}

int64_t MemoryEstimate::total() const {
  return (Saturating(parameters) + activations + data + fixed).value();
}

}  // namespace normlab::engine
