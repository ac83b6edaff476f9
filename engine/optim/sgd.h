#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

#include "engine/optim/elementwise_optimizer.h"

namespace normlab::engine {

struct SgdOptions {
  double momentum = 0;
  double weight_decay = 0;
  bool nesterov = false;  // only with momentum
};

// torch.optim.SGD without dampening, elementwise, in this order of operations:
//   d = g + weight_decay*w
//   v <- momentum*v + d
//   w <- w - learning_rate*v                    nesterov: w <- w - learning_rate*(d + momentum*v)
// Without momentum v is not kept and w <- w - learning_rate*d. Its state is the velocity v
// (PyTorch's momentum_buffer), which starts at 0; so the first v is d, as in PyTorch.
//
// Not thread-safe; owns its state.
class Sgd : public ElementwiseOptimizer {
 public:
  // RESOURCE_EXHAUSTED: no memory for the state.
  static absl::StatusOr<std::unique_ptr<Sgd>> Create(SgdOptions options, const UpdateScope& scope);

  std::vector<OptimizerSlot> slots() override;

 private:
  Sgd(SgdOptions options, const UpdateScope& scope, Arena velocity)
      : ElementwiseOptimizer(scope), options_(options), velocity_(std::move(velocity)) {}

  void BeginStep(double learning_rate) override;
  uint32_t UpdatePiece(int64_t first,
                       int64_t count,
                       bool decays,
                       GradientView view,
                       const float* gradients,
                       float* parameters) override;

  const SgdOptions options_;
  Arena velocity_;  // empty without momentum
  float learning_rate_ = 0;
};

}  // namespace normlab::engine
