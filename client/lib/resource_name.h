#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace normlab::client {

// The last part of a name of the service: ID of jobs/ID, NUMBER of jobs/ID/artifacts/NUMBER. Thread-safe.
inline std::string IdOf(absl::string_view name) {
  return std::string(name.substr(name.rfind('/') + 1));
}

}  // namespace normlab::client
