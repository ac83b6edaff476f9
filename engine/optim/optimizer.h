#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "engine/graph/graph.h"
#include "engine/tensor/arena.h"

#include "normlab/v1/spec.pb.h"

namespace normlab::engine {

// One kind of optimizer state: an arena laid out like the parameters.
struct OptimizerSlot {
  std::string name;  // as PyTorch calls it, for example momentum_buffer
  absl::Span<float> values;
};

// A number that is state of the optimizer as a whole, for example how many updates were done.
struct OptimizerCounter {
  std::string name;  // as PyTorch calls it, for example step
  int64_t* value = nullptr;
};

// Changes parameters by their gradients. Not thread-safe; owns its state.
class Optimizer {
 public:
  virtual ~Optimizer() = default;

  // One update of all parameters. `gradients` and `parameters` are whole arenas of the size given
  // at creation; gaps between tensors are zero and stay zero. Gradients are only read: neither
  // weight decay nor clipping ever shows in them. Allocates nothing, cannot fail.
  // False: a parameter is now NaN or infinite.
  virtual bool Step(double learning_rate,
                    absl::Span<const float> gradients,
                    absl::Span<float> parameters) = 0;

  // The whole state, for checkpoints: to be stored, or overwritten when a run is resumed. Spans and
  // pointers stay valid as long as the optimizer. Zero at first.
  virtual std::vector<OptimizerSlot> slots() = 0;
  virtual std::vector<OptimizerCounter> counters() { return {}; }
};

// The optimizer of a valid, resolved spec for the parameters of `graph`. Its slots are as many as
// OptimizerSlotCount (engine/spec/optimizer_memory.h) says. RESOURCE_EXHAUSTED: no memory for its
// state.
absl::StatusOr<std::unique_ptr<Optimizer>> MakeOptimizer(const v1::JobSpec& resolved,
                                                         const Graph& graph);

}  // namespace normlab::engine
