#include "engine/spec/limits.h"
#include "engine/spec/validate_parts.h"

namespace normlab::engine {

void ValidateNormalization(const v1::Normalizer& normalization, Checker& checker) {
  if (!normalization.has_batch()) {
    return;  // none has no settings, and is the default
  }
  const v1::BatchNorm& batch = normalization.batch();
  if (batch.has_epsilon()) {
    checker.Real("normalization.batch.epsilon", batch.epsilon(),
                 {.minimum = 0, .maximum = kMaxReal}, "the default is 1e-5");
  }
  if (batch.has_running_update_rate()) {
    checker.Real("normalization.batch.running_update_rate", batch.running_update_rate(),
                 {.minimum = 0, .open_minimum = true, .maximum = 1},
                 "it is the weight of the new batch in the running statistics; the default is 0.1");
  }
}

}  // namespace normlab::engine
