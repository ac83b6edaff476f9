#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "engine/dnnl/layout.h"
#include "engine/dnnl/op.h"
#include "engine/dnnl/runtime.h"
#include "engine/parallel/communicator.h"
#include "engine/tensor/buffer_pool.h"

namespace normlab::engine {

enum class Mode { kTraining, kEvaluation };

// What was chosen to compute a pass of a layer, for the job's record.
struct ImplementationChoice {
  std::string layer;
  std::string pass;  // forward, backward_data, backward_weights, ...
  std::string implementation;
};

// A tensor of a plan: where it is and how it lies there.
struct View {
  Layout layout;
  Buffer* buffer = nullptr;
  // Whoever wrote it has told RunState of any NaN.
  bool nan_checked = false;
  // Its writer never reads it again, in no pass: a layer that is its only reader may write over it.
  bool overwritable = false;

  // Of F32 views, and of bf16 ones.
  float* floats() const { return buffer->floats(); }
  uint16_t* bf16s() const { return reinterpret_cast<uint16_t*>(buffer->data); }
};

// What a plan's layers are told before a pass, and what they tell of it.
struct RunState {
  // The step whose random numbers (noise) are drawn, and the seed they come from.
  uint32_t seed = 0;
  int64_t step = 0;
  // False: training-mode passes leave running statistics as they are.
  bool update_running_statistics = true;
  // Some kernels (oneDNN's ReLU and maximum pooling) turn NaN into numbers, and a run that
  // overflowed would go on at a plausible loss. Whoever runs one says here that its input had a
  // NaN; the loss is NaN then.
  bool saw_nan = false;
};

// How convolutions are computed; see engine/layers/conv2d.h.
enum class ConvolutionPolicy { kAuto, kDirect, kWinograd, kMeasure };

// What ConvolutionPolicy::kMeasure found out, by plan, layer and pass ("training of 128: conv1
// forward"), as ToString(ConvolutionChoice) has it. A plan that finds an entry for a pass takes it
// instead of measuring, so that a later start of the same run computes the same numbers.
using MeasuredChoices = std::map<std::string, std::string>;

struct PlanOptions {
  int64_t batch = 0;
  Mode mode = Mode::kTraining;
  // In which weight layers take activations and weights; parameters and their gradients are F32.
  DataType type = DataType::kF32;
  ConvolutionPolicy convolution = ConvolutionPolicy::kAuto;
  // Read and extended by kMeasure; null: everything is measured. Not owned.
  MeasuredChoices* measured = nullptr;
  // Every intermediate shall be kept visible: nothing is fused, and nothing shares memory.
  bool unfused = false;
  // False: every buffer has memory of its own; for tests, since it changes no number.
  bool share_memory = true;
  // Examples have a class; else real-valued targets.
  bool classes = true;
  // Ranks over whose batches together normalizers take batch statistics in training; null: each over
  // its own. Not owned.
  Communicator* statistics = nullptr;
  // Examples of the batch that the loss is of, when `batch` is this rank's share of it; 0: `batch`.
  int64_t loss_batch = 0;
};

// Ops to run one after the other; the planner owns them.
using OpList = std::vector<const Op*>;

inline void RunAll(const OpList& ops) {
  for (const Op* op : ops) {
    op->Run();
  }
}

// When an op runs: in the pass that is planned, or also between passes and in the middle of others,
// as the refresh of weights does; then its scratchpad shares memory only with such ops.
enum class When { kThisTick, kAnyTime };

// What layers plan with: collects ops, buffers and choices, then gives everything its memory at
// once.
//
// It has a clock that ticks once for every pass of a layer, in the order in which they will run.
// A buffer's content is safe from the tick at which it was reserved to the last tick at which it
// was bound to an op, converted or named in Use; before and after, others may have the memory.
//
// Thread-compatible. Owns ops and buffers; lives as long as the layers planned with it.
class Planner {
 public:
  Planner(Runtime runtime, PlanOptions options)
      : runtime_(std::move(runtime)), options_(options), run_(std::make_unique<RunState>()) {}

  const Runtime& runtime() const { return runtime_; }
  const PlanOptions& options() const { return options_; }
  int64_t batch() const { return options_.batch; }
  bool training() const { return options_.mode == Mode::kTraining; }
  // Whether batch statistics are those of several ranks.
  bool synchronized() const { return training() && options_.statistics != nullptr; }
  // Examples by which a mean loss divides.
  int64_t loss_batch() const {
    return options_.loss_batch > 0 ? options_.loss_batch : options_.batch;
  }
  bool unfused() const { return options_.unfused; }
  // Stays where it is when the planner is moved.
  RunState& run() const { return *run_; }

  // The pass of the next layer is planned.
  void Tick() { ++tick_; }

  // Memory for this tick, and later ones at which it is used.
  Buffer* Reserve(int64_t bytes) {
    return buffers_.Reserve(bytes, tick_, /*kept=*/!options_.share_memory);
  }
  View Reserve(const Layout& layout) {
    return {layout,
            buffers_.Reserve(layout.bytes(), tick_, options_.unfused || !options_.share_memory)};
  }
  // Memory of its own, zeroed at first: what is filled from outside, or outlives a step.
  Buffer* ReserveKept(int64_t bytes) { return buffers_.Reserve(bytes, tick_, /*kept=*/true); }
  View ReserveKept(const Layout& layout) { return {layout, ReserveKept(layout.bytes())}; }
  Buffer* Borrow(float* data, int64_t floats) { return buffers_.Borrow(data, floats); }

  // The pass that is planned reads or writes this; for loops of our own. Null and empty views are
  // allowed.
  void Use(Buffer* buffer) const {
    if (buffer != nullptr) {
      BufferPool::Use(*buffer, tick_);
    }
  }
  void Use(const View& view) const { Use(view.buffer); }
  // The same, for ops: binds an argument.
  [[nodiscard]] absl::Status Bind(Op& op, Arg arg, Buffer* buffer) const {
    Use(buffer);
    return op.Bind(arg, buffer);
  }

  // Takes over an op, gives it a scratchpad and records its implementation; the pointer stays
  // valid. Passes errors on, naming the layer. `around`: of loops of our own around the op, put
  // before its name in the record.
  absl::StatusOr<Op*> Adopt(absl::string_view layer,
                            absl::string_view pass,
                            absl::StatusOr<Op> op,
                            When when = When::kThisTick,
                            absl::string_view around = "");
  // Records a choice that is not an op.
  void Record(absl::string_view layer, absl::string_view pass, absl::string_view implementation);

  // The memory of `from` itself when it lies in `layout` already, else a copy whose reorder is added
  // to `ops`; of another type, a converted one.
  absl::StatusOr<View> Convert(absl::string_view layer,
                               const View& from,
                               const Layout& layout,
                               OpList& ops);
  // The same, but into memory that exists. `pass`: as which it is recorded.
  absl::Status ConvertInto(absl::string_view layer,
                           const View& from,
                           const View& to,
                           OpList& ops,
                           absl::string_view pass = "reorder",
                           When when = When::kThisTick);

  // Allocates the buffers and connects the ops. Call once, last. RESOURCE_EXHAUSTED: out of memory.
  absl::Status Finish();

  const std::vector<ImplementationChoice>& choices() const { return choices_; }
  int64_t bytes() const { return buffers_.bytes(); }

 private:
  // One piece for all of them, as large as the largest needs: they run one after the other.
  Buffer* AnyTimeScratch(int64_t bytes);

  Runtime runtime_;
  PlanOptions options_;
  int tick_ = 0;
  Buffer* any_time_scratch_ = nullptr;
  std::unique_ptr<RunState> run_;
  BufferPool buffers_;
  std::deque<Op> ops_;
  std::vector<ImplementationChoice> choices_;
};

}  // namespace normlab::engine
