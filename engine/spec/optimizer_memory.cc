#include "engine/spec/optimizer_memory.h"

namespace normlab::engine {

int OptimizerSlotCount(const v1::Optimizer& resolved) {
  switch (resolved.kind_case()) {
    case v1::Optimizer::kAdam:
    case v1::Optimizer::kAdamw:
      return 2;  // exp_avg, exp_avg_sq
    case v1::Optimizer::kRmsprop: {
      const v1::RmsProp& rmsprop = resolved.rmsprop();
      return 1 + (rmsprop.centered() ? 1 : 0) + (rmsprop.momentum() != 0 ? 1 : 0);
    }
    default:
      return resolved.sgd().momentum() != 0 ? 1 : 0;
  }
}

}  // namespace normlab::engine
