#include "engine/spec/load_plan.h"

#include <algorithm>

namespace normlab::engine {
namespace {

// A set of this size may not stay in the machine's page cache, and examples are visited in random
// order: every one may be a wait for the disk.
constexpr int64_t kMayWaitForDisk = int64_t{1} << 30;
// Reshuffling this many at the begin of an epoch takes some 30 ms.
constexpr int64_t kLongShuffle = 2000000;

}  // namespace

LoadPlan PlanLoading(const v1::JobSpec& resolved, const DatasetShape& shape) {
  LoadPlan plan;
  const int64_t train_examples = ComputeRunLength(resolved, shape).train_examples;
  plan.prefetch_thread =
      resolved.threads() > 1 && (DecodedBytes(shape) >= kMayWaitForDisk ||
                                 (resolved.data().shuffle() && train_examples >= kLongShuffle));
  if (plan.prefetch_thread) {
    constexpr int64_t kBuffers = 2;
    const int64_t batch = std::min<int64_t>(resolved.batch_size(), train_examples);
    plan.buffer_bytes = kBuffers * batch * static_cast<int64_t>(sizeof(float)) *
                        (shape.example_values() + std::max<int64_t>(shape.targets, 1));
  }
  return plan;
}

}  // namespace normlab::engine
