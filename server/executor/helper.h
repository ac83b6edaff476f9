#pragma once

#include <functional>
#include <string>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "normlab/v1/worker.pb.h"

namespace normlab::server {

// The persistent helper worker: a process that does for the server what must not be able to take
// the server down, such as parsing data files. It is started when first needed and again after a
// crash. Thread-safe.
class Helper {
 public:
  using Callback = absl::AnyInvocable<void(absl::StatusOr<v1::HelperResponse>) &&>;

  virtual ~Helper() = default;

  // Sends a request (its id is set here) and answers on a thread of the helper. INTERNAL: the
  // helper crashed on it; DEADLINE_EXCEEDED: it took longer than `timeout` (the helper is ended and
  // started anew); UNAVAILABLE: shutting down.
  virtual void Call(v1::HelperRequest request, absl::Duration timeout, Callback done) = 0;

  // The same for somebody who can wait: what Call sends goes first. The owners' requests take turns,
  // equal ones share an answer, and an owner has so many different ones waiting at most: beyond that
  // RESOURCE_EXHAUSTED.
  static constexpr int kMaxWaitingPerOwner = 8;
  virtual void CallInTurn(std::string owner,
                          v1::HelperRequest request,
                          absl::Duration timeout,
                          Callback done) {
    (void)owner;
    Call(std::move(request), timeout, std::move(done));
  }

  // The same as Call, waiting.
  absl::StatusOr<v1::HelperResponse> CallAndWait(v1::HelperRequest request, absl::Duration timeout);
};

}  // namespace normlab::server
