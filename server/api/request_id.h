#pragma once

#include <string>

#include "absl/status/status.h"
#include <google/protobuf/message_lite.h>

namespace normlab::server {

// INVALID_ARGUMENT on request_id: it is longer than 128 characters, or not printable ASCII.
absl::Status CheckRequestId(const std::string& request_id);

// SHA-256 of a serialization in which maps are sorted: the same for equal messages from any client
// of this build.
std::string RequestHash(const google::protobuf::MessageLite& body);

}  // namespace normlab::server
