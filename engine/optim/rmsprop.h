#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

#include "engine/optim/elementwise_optimizer.h"

namespace normlab::engine {

struct RmsPropOptions {
  double alpha = 0.99;
  double epsilon = 1e-8;
  double momentum = 0;
  double weight_decay = 0;
  bool centered = false;
};

// torch.optim.RMSprop (Hinton's lecture 6e; centered: Graves 2013), elementwise, in this order of
// operations:
//   d = g + weight_decay*w
//   s <- alpha*s + ((1 - alpha)*d)*d
//   centered: a <- alpha*a + (1 - alpha)*d
//   r = sqrt(s) + epsilon                       centered: r = sqrt(max(s - a*a, 0)) + epsilon
//   w <- w - learning_rate*d/r                  with momentum: b <- momentum*b + d/r,
//                                                              w <- w - learning_rate*b
// The maximum is ours: after many equal gradients rounding makes s - a*a negative, of which PyTorch
// 1.13 takes a NaN. The state is s (PyTorch's square_avg), a (grad_avg, only when centered) and b
// (momentum_buffer, only with momentum).
//
// Not thread-safe; owns its state.
class RmsProp : public ElementwiseOptimizer {
 public:
  // RESOURCE_EXHAUSTED: no memory for the state.
  static absl::StatusOr<std::unique_ptr<RmsProp>> Create(RmsPropOptions options,
                                                         const UpdateScope& scope);

  std::vector<OptimizerSlot> slots() override;

 private:
  RmsProp(
      RmsPropOptions options, const UpdateScope& scope, Arena square, Arena mean, Arena velocity)
      : ElementwiseOptimizer(scope),
        options_(options),
        square_(std::move(square)),
        mean_(std::move(mean)),
        velocity_(std::move(velocity)) {}

  void BeginStep(double learning_rate) override;
  uint32_t UpdatePiece(int64_t first,
                       int64_t count,
                       bool decays,
                       GradientView view,
                       const float* gradients,
                       float* parameters) override;

  const RmsPropOptions options_;
  Arena square_;    // square_avg
  Arena mean_;      // grad_avg; empty unless centered
  Arena velocity_;  // momentum_buffer; empty without momentum
  float learning_rate_ = 0;
};

}  // namespace normlab::engine
