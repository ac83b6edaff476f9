#pragma once

#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include <grpcpp/server_context.h>

#include "server/api/authorized_source.h"
#include "server/api/backend.h"
#include "server/api/caller.h"
#include "server/api/stream_reactor.h"

namespace normlab::server {

// Opens a stream, or answers why not. `make` must not block: what needs the disk is the source's
// business.
template <typename Response, typename Request>
grpc::ServerWriteReactor<Response>* OpenStream(
    Backend& backend,
    grpc::CallbackServerContext* context,
    absl::string_view method,
    const Request& request,
    absl::Duration heartbeat,
    absl::StatusOr<std::unique_ptr<StreamSource<Response>>> (*make)(Backend&, const Request&)) {
  const absl::StatusOr<Caller> caller = Authorize(backend, *context, method);
  if (!caller.ok()) {
    return StreamReactor<Response>::Refuse(caller.status());
  }
  auto lease = backend.authorizer.OpenStream(*caller);
  if (!lease.ok()) {
    AuditRefused(backend, *caller, method, ResourceOf(request), context->peer(), lease.status());
    return StreamReactor<Response>::Refuse(lease.status());
  }
  auto source = make(backend, request);
  if (!source.ok()) {
    return StreamReactor<Response>::Refuse(source.status());
  }
  return StreamReactor<Response>::Start(
      backend.streams, backend.stream_pool, context, heartbeat,
      std::make_unique<AuthorizedSource<Response>>(backend, *caller, std::string(method),
                                                   ResourceOf(request), context->peer(),
                                                   *std::move(lease), *std::move(source)));
}

}  // namespace normlab::server
