#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "engine/dnnl/layout.h"
#include "engine/dnnl/op.h"
#include "engine/dnnl/runtime.h"
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

  float* floats() const { return buffer->floats(); }
  // Of floats in memory, padding included.
  int64_t float_count() const { return layout.bytes() / static_cast<int64_t>(sizeof(float)); }
};

// Ops to run one after the other; the planner owns them.
using OpList = std::vector<const Op*>;

inline void RunAll(const OpList& ops) {
  for (const Op* op : ops) {
    op->Run();
  }
}

// What layers plan with: collects ops, buffers and choices, then gives everything its memory at
// once.
//
// Thread-compatible. Owns ops and buffers; lives as long as the layers planned with it.
class Planner {
 public:
  Planner(Runtime runtime, int64_t batch, Mode mode, bool unfused)
      : runtime_(std::move(runtime)), batch_(batch), mode_(mode), unfused_(unfused) {}

  const Runtime& runtime() const { return runtime_; }
  int64_t batch() const { return batch_; }
  bool training() const { return mode_ == Mode::kTraining; }
  // Every intermediate shall be kept visible.
  bool unfused() const { return unfused_; }

  Buffer* Reserve(int64_t bytes, BufferRole role = BufferRole::kKept) {
    return buffers_.Reserve(bytes, role);
  }
  View Reserve(const Layout& layout, BufferRole role = BufferRole::kKept) {
    return {layout, Reserve(layout.bytes(), role)};
  }
  Buffer* Borrow(float* data, int64_t floats) { return buffers_.Borrow(data, floats); }
  // A tensor for the gradient of a layer's input, in other memory than the gradient `d_y` of its
  // output.
  View ReserveGradient(const Layout& layout, const View& d_y);

  // Takes over an op, gives it a scratchpad and records its implementation; the pointer stays
  // valid. Passes errors on, naming the layer.
  absl::StatusOr<Op*> Adopt(absl::string_view layer, absl::string_view pass, absl::StatusOr<Op> op);
  // Records a choice that is not an op.
  void Record(absl::string_view layer, absl::string_view pass, absl::string_view implementation);

  // `from` itself when it lies in `layout` already, else a copy in a new buffer of `role` whose
  // reorder is added to `ops`.
  absl::StatusOr<View> Convert(absl::string_view layer,
                               const View& from,
                               const Layout& layout,
                               BufferRole role,
                               OpList& ops);
  // The same, but into memory that exists.
  absl::Status ConvertInto(absl::string_view layer, const View& from, const View& to, OpList& ops);

  // Allocates the buffers and connects the ops. Call once, last. RESOURCE_EXHAUSTED: out of memory.
  absl::Status Finish();

  const std::vector<ImplementationChoice>& choices() const { return choices_; }
  int64_t bytes() const { return buffers_.bytes(); }

 private:
  Runtime runtime_;
  int64_t batch_;
  Mode mode_;
  bool unfused_;
  BufferPool buffers_;
  std::deque<Op> ops_;
  std::vector<ImplementationChoice> choices_;
};

}  // namespace normlab::engine
