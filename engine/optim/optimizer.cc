#include "engine/optim/optimizer.h"

#include <utility>

#include "common/status_macros.h"
#include "engine/optim/sgd.h"

namespace normlab::engine {

absl::StatusOr<std::unique_ptr<Optimizer>> MakeOptimizer(const v1::JobSpec& resolved,
                                                         int64_t parameter_floats) {
  const v1::Sgd& sgd = resolved.optimizer().sgd();
  NORMLAB_ASSIGN_OR_RETURN(
      std::unique_ptr<Optimizer> optimizer,
      Sgd::Create({.momentum = sgd.momentum(), .weight_decay = sgd.weight_decay()},
                  parameter_floats));
  return optimizer;
}

double LearningRateAt(const v1::JobSpec& resolved, int64_t /*step*/) {
  return resolved.optimizer().sgd().learning_rate();
}

}  // namespace normlab::engine
