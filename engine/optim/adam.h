#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

#include "engine/optim/elementwise_optimizer.h"

namespace normlab::engine {

struct AdamOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;
  // AdamW (Loshchilov and Hutter 2019): weights shrink apart from the gradient.
  bool decoupled_decay = false;
};

// torch.optim.Adam and torch.optim.AdamW without amsgrad (Kingma and Ba 2015), elementwise, update
// t = 1, 2, ..., in this order of operations:
//   Adam:  d = g + weight_decay*w       AdamW: w <- w*(1 - learning_rate*weight_decay), d = g
//   m <- beta1*m + (1 - beta1)*d
//   v <- beta2*v + ((1 - beta2)*d)*d
//   w <- w - (learning_rate/(1 - beta1^t))*m / (sqrt(v)/sqrt(1 - beta2^t) + epsilon)
// Factors that are the same for all elements are computed in double and rounded once. The state is
// m (PyTorch's exp_avg), v (exp_avg_sq) and t (step).
//
// Not thread-safe; owns its state.
class Adam : public ElementwiseOptimizer {
 public:
  // RESOURCE_EXHAUSTED: no memory for the state.
  static absl::StatusOr<std::unique_ptr<Adam>> Create(AdamOptions options,
                                                      const UpdateScope& scope);

  std::vector<OptimizerSlot> slots() override;
  std::vector<OptimizerCounter> counters() override;

 private:
  Adam(AdamOptions options, const UpdateScope& scope, Arena mean, Arena square)
      : ElementwiseOptimizer(scope),
        options_(options),
        mean_(std::move(mean)),
        square_(std::move(square)) {}

  void BeginStep(double learning_rate) override;
  uint32_t UpdatePiece(int64_t first,
                       int64_t count,
                       bool decays,
                       GradientView view,
                       const float* gradients,
                       float* parameters) override;

  const AdamOptions options_;
  Arena mean_;    // exp_avg
  Arena square_;  // exp_avg_sq
  int64_t steps_ = 0;
  // Of the update under way.
  float step_size_ = 0;
  float square_correction_ = 1;
  float kept_ = 1;
};

}  // namespace normlab::engine
