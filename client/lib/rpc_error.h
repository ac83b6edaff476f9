#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/support/status.h"

namespace normlab::client {

// Our absl::Status values carry the google.rpc.Status that came with an error as a payload; the
// functions below put it there and read it back. All are thread-safe.

// The status of a call with its details, if it has any that can be read.
absl::Status FromGrpcStatus(const grpc::Status& status);

// The same from a google.rpc.Status.
absl::Status FromRpcStatus(const google::rpc::Status& status);

// Code, message and details of `status`, ready to be printed as JSON.
google::rpc::Status ToRpcStatus(const absl::Status& status);

// Every field violation of the BadRequest detail; empty without one.
std::vector<google::rpc::BadRequest::FieldViolation> FieldViolations(const absl::Status& status);

// How long the server asks to wait before another try.
std::optional<absl::Duration> RetryDelay(const absl::Status& status);

// The reason constant of the ErrorInfo detail, such as QUEUE_FULL; empty without one.
std::string ErrorReason(const absl::Status& status);

// For people, in several lines: the message, then every violation, fact and hint of the details
// that the message does not contain. Without a line break at the end.
std::string DescribeError(const absl::Status& status);

// The canonical name of a code, for example NOT_FOUND.
std::string CodeName(absl::StatusCode code);

}  // namespace normlab::client
