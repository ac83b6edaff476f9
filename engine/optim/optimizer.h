#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "engine/tensor/arena.h"

#include "normlab/v1/spec.pb.h"

namespace normlab::engine {

// One kind of optimizer state: an arena laid out like the parameters.
struct OptimizerSlot {
  std::string name;  // as PyTorch calls it, for example momentum_buffer
  absl::Span<float> values;
};

// Changes parameters by their gradients. Not thread-safe; owns its state.
class Optimizer {
 public:
  virtual ~Optimizer() = default;

  // One update of all parameters. `gradients` and `parameters` are whole arenas of the size given
  // at creation; gaps between tensors are zero and stay zero. Allocates nothing, cannot fail.
  // False: a parameter is now NaN or infinite.
  virtual bool Step(double learning_rate,
                    absl::Span<const float> gradients,
                    absl::Span<float> parameters) = 0;

  // The whole state, for checkpoints: to be stored, or overwritten when a run is resumed. Spans
  // stay valid as long as the optimizer. Zero at first.
  virtual std::vector<OptimizerSlot> slots() = 0;
};

// The optimizer of a valid, resolved spec. RESOURCE_EXHAUSTED: no memory for its state.
absl::StatusOr<std::unique_ptr<Optimizer>> MakeOptimizer(const v1::JobSpec& resolved,
                                                         int64_t parameter_floats);

// The learning rate of update `step`.
double LearningRateAt(const v1::JobSpec& resolved, int64_t step);

}  // namespace normlab::engine
