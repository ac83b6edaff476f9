#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include <grpcpp/server_context.h>

#include "server/api/backend.h"
#include "server/auth/caller.h"

namespace normlab::server {

// Decides at the top of every call who makes it and whether they may call this method at all, from
// the token in the call's metadata. UNAUTHENTICATED, PERMISSION_DENIED, RESOURCE_EXHAUSTED: see
// Authorizer. Does not block.
absl::StatusOr<Caller> Authorize(const Backend& backend,
                                 const grpc::CallbackServerContext& context,
                                 absl::string_view method);

// Whether what `resource` names ("jobs/<id>", "jobs/<id>/artifacts/<a>", "experiments/<id>") exists
// for the caller. OK for the empty name of a call that is about nothing. Everything that this
// function knows no owner of is refused to everybody but an admin, so that a new collection is
// closed until it has a rule here: INVALID_ARGUMENT for what is no name of a collection. NOT_FOUND,
// with the same words for what another owner has as for what never was. Reads the store, so it
// blocks; not for an admin.
absl::Status CheckOwner(Backend& backend, const Caller& caller, absl::string_view resource);

// Writes a call refused by CheckOwner into the audit log, a read too; bounded.
void AuditRefused(const Backend& backend,
                  const Caller& caller,
                  absl::string_view method,
                  absl::string_view resource,
                  absl::string_view peer,
                  const absl::Status& why);

// Writes a change into the audit log.
void Audit(const Backend& backend,
           const Caller& caller,
           absl::string_view method,
           absl::string_view resource,
           const grpc::CallbackServerContext& context,
           const absl::Status& outcome);

// The job that a request is about, as its messages name it: `name`, `parent`, or `job.name`; empty
// for a request that is about none.
template <typename Request>
std::string ResourceOf(const Request& request) {
  if constexpr (requires { request.name(); }) {
    return request.name();
  } else if constexpr (requires { request.parent(); }) {
    return request.parent();
  } else if constexpr (requires { request.job().name(); }) {
    return request.job().name();
  } else {
    return "";
  }
}

// Whether the caller has asked that what is not there is no error.
template <typename Request>
bool AllowsMissing(const Request& request) {
  if constexpr (requires { request.allow_missing(); }) {
    return request.allow_missing();
  } else {
    return false;
  }
}

}  // namespace normlab::server
