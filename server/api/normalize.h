#pragma once

#include <cstddef>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

#include "server/api/backend.h"

#include "normlab/v1/normalization.pb.h"

namespace normlab::server {

// Which Normalize calls may be under way: so many and so many bytes of requests, or a single one of
// any size. Keeps the memory of tensors, and the time that a caller waits for its turn, within
// bounds. Thread-safe.
class NormalizeQueue {
 public:
  static constexpr int kMaxCalls = 32;
  static constexpr size_t kMaxBytes = size_t{256} << 20;

  // False: too much is under way.
  [[nodiscard]] bool TryEnter(size_t bytes);
  // Of a call that has entered.
  void Leave(size_t bytes);

 private:
  absl::Mutex mu_;
  int calls_ ABSL_GUARDED_BY(mu_) = 0;
  size_t bytes_ ABSL_GUARDED_BY(mu_) = 0;
};

// Checks sizes and settings, has the helper process compute, and calls `done`, on a thread of the
// pool. Values are never looked at here: no input can take the server down.
//
// INVALID_ARGUMENT with every violation; RESOURCE_EXHAUSTED: a tensor of more than 16 MiB, or too
// many calls under way (with RetryInfo); DEADLINE_EXCEEDED: no result within
// ApiOptions::normalize_timeout; INTERNAL: the helper process crashed on it; UNAVAILABLE: shutting
// down. Call it on the pool; `backend` and `queue` outlive the call, `request` need not.
void StartNormalize(Backend& backend,
                    NormalizeQueue& queue,
                    const v1::NormalizeRequest& request,
                    absl::AnyInvocable<void(absl::StatusOr<v1::NormalizeResponse>) &&> done);

}  // namespace normlab::server
