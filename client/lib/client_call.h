#pragma once

#include <functional>
#include <string>

#include "absl/time/clock.h"
#include "grpcpp/client_context.h"

#include "client/lib/client.h"
#include "client/lib/connection.h"
#include "client/lib/rpc_error.h"
#include "common/status_macros.h"

// The body of Client's unary calls, for the files that implement them.
namespace normlab::client {

// Whether a server refused a call, without having looked at it, for the load of the moment, and says when
// to come back. A full queue or quota is none: that may last for hours, and people decide. Thread-safe.
inline bool IsOverload(const absl::Status& status) {
  if (!absl::IsResourceExhausted(status) || !RetryDelay(status).has_value()) {
    return false;
  }
  const std::string reason = ErrorReason(status);
  return reason == "OVERLOADED" || reason == "RATE_LIMITED";
}

template <typename Response>
absl::StatusOr<Response> Client::Call(
    const std::function<grpc::Status(grpc::ClientContext*, Response*)>& method, int* repetitions) {
  NORMLAB_RETURN_IF_ERROR(usable_);
  Backoff backoff(options_.retry);
  while (true) {
    grpc::ClientContext context;
    AddToken(options_.token, context);
    context.set_deadline(absl::ToChronoTime(absl::Now() + options_.timeout));
    auto cancel = [&context] { context.TryCancel(); };
    const std::stop_callback<decltype(cancel)> on_stop(options_.stop, cancel);
    Response response;
    const absl::Status status = FromGrpcStatus(method(&context, &response));
    if (status.ok()) {
      return response;
    }
    const bool had_no_room = IsOverload(status);
    if ((!IsTransient(status) && !had_no_room) || !backoff.Wait(status, options_.stop)) {
      return Explain(status);
    }
    if (repetitions != nullptr && !had_no_room) {
      ++*repetitions;
    }
  }
}

}  // namespace normlab::client
