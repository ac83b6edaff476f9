#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "engine/optim/optimizer.h"

namespace normlab::engine {

struct SgdOptions {
  double momentum = 0;
  double weight_decay = 0;
};

// One SGD update in PyTorch's form, elementwise over flat arenas, in one pass:
//   v <- momentum*v + (gradient + weight_decay*w);  w <- w - learning_rate*v
// Without momentum v is not kept and `velocity` is empty. The gradient is only read, so that weight
// decay never shows in the norms that probes take of it. All arithmetic in float without fused
// multiply-add: the same bits on every CPU and for every number of threads.
//
// All spans have the same size and do not overlap. Large arenas are shared among OpenMP threads.
// Returns whether every w is finite afterwards, which costs nothing here: the values are at hand.
bool SgdUpdate(const SgdOptions& options,
               double learning_rate,
               absl::Span<const float> gradients,
               absl::Span<float> velocity,
               absl::Span<float> parameters);

// SGD with momentum and weight decay; its state is the velocity v (PyTorch's momentum_buffer).
class Sgd : public Optimizer {
 public:
  // RESOURCE_EXHAUSTED: no memory for the state.
  static absl::StatusOr<std::unique_ptr<Sgd>> Create(SgdOptions options, int64_t parameter_floats);

  bool Step(double learning_rate,
            absl::Span<const float> gradients,
            absl::Span<float> parameters) override;
  std::vector<OptimizerSlot> slots() override;

 private:
  Sgd(SgdOptions options, Arena velocity) : options_(options), velocity_(std::move(velocity)) {}

  const SgdOptions options_;
  Arena velocity_;  // empty without momentum
};

}  // namespace normlab::engine
