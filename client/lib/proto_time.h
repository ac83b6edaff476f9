#pragma once

#include "absl/time/time.h"
#include "google/protobuf/timestamp.pb.h"

namespace normlab::client {

// A moment of a message, to the nanosecond; one that is not set is 1970. Thread-safe.
inline absl::Time ToTime(const google::protobuf::Timestamp& time) {
  return absl::FromUnixSeconds(time.seconds()) + absl::Nanoseconds(time.nanos());
}

}  // namespace normlab::client
