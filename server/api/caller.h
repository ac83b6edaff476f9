#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include <grpcpp/server_context.h>

namespace normlab::server {

// Who makes a call.
struct Caller {
  std::string owner;
};

// Decides at the top of every call who makes it and whether they may. With --auth=none, the only
// way so far (and refused unless every listener is loopback), everybody is the owner "local" and
// may do everything.
absl::StatusOr<Caller> Authorize(const grpc::CallbackServerContext& context,
                                 absl::string_view method);

}  // namespace normlab::server
