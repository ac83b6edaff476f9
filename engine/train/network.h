#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "engine/graph/graph.h"
#include "engine/layers/plan.h"
#include "engine/parallel/gradient_reducer.h"
#include "engine/tensor/arena.h"

namespace normlab::engine {

// The numbers of one model, each role in one flat 64-byte aligned arena in plain layout
// (Graph::parameters() and Graph::state() give offsets). Gaps between tensors are zero and stay
// zero, so that norms over an arena are exact. Not thread-safe; owned by the trainer, outlives its
// networks.
struct ModelState {
  // Throws std::bad_alloc when there is not enough memory; Create answers with a status instead.
  explicit ModelState(const Graph& graph);
  // RESOURCE_EXHAUSTED: out of memory.
  static absl::StatusOr<std::unique_ptr<ModelState>> Create(const Graph& graph);

  Arena parameters;
  Arena gradients;
  Arena state;  // running statistics: mean 0 and variance 1 at first
};

struct NetworkOptions {
  int64_t batch_size = 0;
  Mode mode = Mode::kTraining;
  // True: plans that keep every intermediate visible (no fused BN+ReLU, no shared memory). For
  // tests and probes.
  bool unfused = false;
  // False: every buffer has memory of its own. For tests; it changes no number.
  bool share_memory = true;
  // Examples have a class each; else real-valued targets.
  bool classes = true;
  // In which weight layers take activations and weights; parameters and their gradients are F32.
  DataType type = DataType::kF32;
  ConvolutionPolicy convolution = ConvolutionPolicy::kAuto;
  // Read and extended while a network is planned with kMeasure; null: everything is measured. Not
  // owned.
  MeasuredChoices* measured = nullptr;
  // Of the noise that some normalizers draw.
  uint32_t seed = 0;
  // OpenMP threads that compute; 0: as many as OpenMP gives the planning thread. Fixed by Plan:
  // kernels and their scratch memory are made for that number, and Forward and Backward insist on
  // it.
  int threads = 0;
  // Of training: `batch_size` examples are this rank's share of a batch of `loss_batch` (0: all of
  // it), and batch statistics are taken over the shares of these ranks (null: of this share alone).
  // Forward then answers, and Backward fills in, this rank's part of a sum over all ranks. Not owned;
  // must outlive the network.
  Communicator* statistics = nullptr;
  int64_t loss_batch = 0;
};

struct BatchResult {
  double loss = 0;      // as the graph's loss has it: mean over the batch, or sum
  int64_t correct = 0;  // examples whose largest logit is the label (first of equals)
};

// A graph planned for one batch size: every primitive, layout and buffer is fixed by Plan; Forward
// and Backward allocate nothing, take no lock and cannot fail. Several networks may share one
// ModelState (a training plan, one for a kept last batch, an evaluation plan), one running at a
// time.
//
// Not thread-safe: one thread drives it, and OpenMP threads of that thread compute. Does not own
// `graph` or `model`, which must outlive it.
class Network {
 public:
  // INVALID_ARGUMENT: the batch cannot be normalized (one value per channel in training mode), the
  // graph does not end with a loss or `model` was made for another graph, naming the layer;
  // INTERNAL: oneDNN refused; RESOURCE_EXHAUSTED: out of memory.
  static absl::StatusOr<std::unique_ptr<Network>> Plan(const Graph& graph,
                                                       ModelState& model,
                                                       NetworkOptions options);

  virtual ~Network() = default;

  // [batch, C, H, W] or [batch, D], row-major; to be filled before Forward.
  virtual absl::Span<float> input() = 0;
  // [batch]; 0 <= label < classes, unchecked. Empty without classes.
  virtual absl::Span<int32_t> labels() = 0;
  // [batch, targets]. Empty with classes.
  virtual absl::Span<float> targets() = 0;
  // What the loss sees, [batch, classes or targets]; after Forward, until Backward.
  virtual absl::Span<const float> outputs() const = 0;

  // Must be called after parameters changed and before the next Forward: refreshes working copies
  // in other layouts.
  virtual void ParametersChanged() = 0;

  // The step whose random numbers the next Forward draws. 0 at first.
  virtual void SetStep(int64_t step) = 0;
  // False: Forward in training mode leaves running statistics as they are. True at first.
  virtual void SetUpdateRunningStatistics(bool update) = 0;

  // Training: batch statistics, and running statistics are updated. Evaluation: running statistics.
  virtual BatchResult Forward() = 0;
  // Forward on the first batch of a run: also sets the parameters whose initial values depend on
  // data (weight norm), layer by layer, but for the layers of these names, whose weights are given.
  // The caller tells other networks by ParametersChanged.
  virtual BatchResult ForwardInitializing(const std::set<std::string>& given) = 0;
  // After Forward in training mode: fills the gradient arena with the gradient of the mean loss
  // (overwrites).
  virtual void Backward() = 0;
  // Told during Backward which gradients are final; null at first. Not owned.
  virtual void SetGradientListener(GradientListener* listener) = 0;

  virtual const std::vector<ImplementationChoice>& implementations() const = 0;
  // Bytes of the buffers that belong to this plan.
  virtual int64_t planned_bytes() const = 0;

  // For tests and probes: the output of a node in plain layout, copied (of the loss, in any plan:
  // one number). NOT_FOUND: no such node. FAILED_PRECONDITION: the plan is not unfused.
  virtual absl::StatusOr<std::vector<float>> ReadOutput(absl::string_view node) const = 0;
  // The same of the gradient of the loss with respect to that output, after Backward.
  // FAILED_PRECONDITION: the plan is not unfused. NOT_FOUND: no such node, or its gradient is not
  // needed.
  virtual absl::StatusOr<std::vector<float>> ReadOutputGradient(absl::string_view node) const = 0;
};

}  // namespace normlab::engine
