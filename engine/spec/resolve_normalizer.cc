#include "engine/spec/resolve_parts.h"

namespace normlab::engine {
namespace {

constexpr double kDefaultEpsilon = 1e-5;
constexpr double kDefaultRunningUpdateRate = 0.1;

}  // namespace

void ResolveNormalizer(v1::Normalizer& normalizer) {
  if (!normalizer.has_batch()) {
    normalizer.mutable_none();
    return;
  }
  v1::BatchNorm& batch = *normalizer.mutable_batch();
  if (!batch.has_epsilon()) {
    batch.set_epsilon(kDefaultEpsilon);
  }
  if (!batch.has_running_update_rate()) {
    batch.set_running_update_rate(kDefaultRunningUpdateRate);
  }
  if (!batch.has_affine()) {
    batch.set_affine(true);
  }
}

}  // namespace normlab::engine
