#pragma once

#include "absl/status/status.h"
#include <grpcpp/support/status.h>

namespace normlab::server {

// The one way from our errors to gRPC's: same code and message, and the payloads
// (google.rpc.ErrorInfo, BadRequest,
// ...; see server/domain/errors.h) as details of a google.rpc.Status in grpc-status-details-bin.
//
// A client's default limit for all trailing metadata is 8 KiB, and beyond it the client sees
// nothing but a complaint about metadata: so a longer message is cut, and of a longer list of
// violations the first ones are sent and the last entry tells how many are left. Pure; thread-safe.
grpc::Status ToGrpcStatus(const absl::Status& status);

}  // namespace normlab::server
