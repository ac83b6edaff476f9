#pragma once

#include <functional>

#include "absl/time/clock.h"
#include "grpcpp/client_context.h"

#include "client/lib/client.h"
#include "client/lib/connection.h"
#include "client/lib/rpc_error.h"
#include "common/status_macros.h"

// The body of Client's unary calls, for the files that implement them.
namespace normlab::client {

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
    if (!IsTransient(status) || !backoff.Wait(status, options_.stop)) {
      return Explain(status);
    }
    if (repetitions != nullptr) {
      ++*repetitions;
    }
  }
}

}  // namespace normlab::client
