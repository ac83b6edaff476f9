#pragma once

#include "absl/time/time.h"
#include "google/protobuf/timestamp.pb.h"

namespace normlab::server {

// Whole microseconds, so that a time is the same after a round trip through the store.
google::protobuf::Timestamp ToTimestamp(absl::Time time);
absl::Time FromTimestamp(const google::protobuf::Timestamp& timestamp);

}  // namespace normlab::server
