#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"

namespace normlab::client {

// The text of a scalar, and whether it was quoted.
struct ScalarText {
  absl::string_view text;
  bool quoted = false;
};

// Sets `field` of `message` (adds to it, when repeated) by protobuf's JSON mapping: numbers also in
// quotes, 1e3 for an integer, "NaN" and "Infinity" (and YAML's .nan and .inf), enums by name or
// number, bytes in base64. A string field takes any scalar as it was written. INVALID_ARGUMENT, for
// a person: the text is no value of the field's type. `field` must not be a message. Thread-safe
// for different messages.
absl::Status SetScalar(const ScalarText& value,
                       const google::protobuf::FieldDescriptor& field,
                       google::protobuf::Message& message);

// Reads "1.5s" (also "10m", "1h30m") into a google.protobuf.Duration. Same errors. Thread-safe.
absl::Status SetDuration(const ScalarText& value, google::protobuf::Message& duration);

// Reads "2026-01-31T12:00:00Z" into a google.protobuf.Timestamp. Same errors. Thread-safe.
absl::Status SetTimestamp(const ScalarText& value, google::protobuf::Message& timestamp);

}  // namespace normlab::client
