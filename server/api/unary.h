#pragma once

#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include <grpcpp/server_context.h>

#include "server/api/backend.h"
#include "server/api/caller.h"
#include "server/api/status.h"
#include "server/domain/errors.h"

namespace normlab::server {

// How long a refused caller is asked to wait.
inline constexpr absl::Duration kOverloadRetry = absl::Milliseconds(200);

// Runs `handler`, a short free function, on the pool and answers with what it returns, when the
// caller may call the method and the job that the request names exists for them.
// RESOURCE_EXHAUSTED with RetryInfo when too many calls wait; a call whose client has gone
// meanwhile is not run.
template <typename Request, typename Response>
grpc::ServerUnaryReactor* RunUnary(Backend& backend,
                                   grpc::CallbackServerContext* context,
                                   absl::string_view method,
                                   const Request* request,
                                   Response* response,
                                   absl::StatusOr<Response> (*handler)(Backend&,
                                                                       const Caller&,
                                                                       const Request&)) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  absl::StatusOr<Caller> caller = Authorize(backend, *context, method);
  if (!caller.ok()) {
    reactor->Finish(ToGrpcStatus(caller.status()));
    return reactor;
  }
  backend.calls_in_flight.fetch_add(1);
  const bool accepted =
      backend.pool.TryPost([&backend, context, request, response, handler, reactor,
                            method = std::string(method), caller = *std::move(caller)] {
        if (context->IsCancelled()) {
          reactor->Finish(grpc::Status::CANCELLED);
          backend.calls_in_flight.fetch_sub(1);
          return;
        }
        const std::string resource = ResourceOf(*request);
        absl::StatusOr<Response> result = Response();
        if (const absl::Status owned = CheckOwner(backend, caller, resource); owned.ok()) {
          result = handler(backend, caller, *request);
          Audit(backend, caller, method, resource, *context, result.status());
        } else {
          AuditRefused(backend, caller, method, resource, context->peer(), owned);
          if (!absl::IsNotFound(owned) || !AllowsMissing(*request)) {
            result = owned;
          }
        }
        if (result.ok()) {
          *response = *std::move(result);
        }
        reactor->Finish(ToGrpcStatus(result.status()));
        backend.calls_in_flight.fetch_sub(1);
      });
  if (!accepted) {
    backend.calls_in_flight.fetch_sub(1);
    reactor->Finish(ToGrpcStatus(Overloaded(kOverloadRetry)));
  }
  return reactor;
}

}  // namespace normlab::server
