#pragma once

#include <string>

#include "client/lib/client.h"

namespace normlab::client {

// For tests: of a client that tries again at once.
inline ClientOptions FastOptions(const std::string& server) {
  ClientOptions options;
  options.server = server;
  options.timeout = absl::Seconds(20);
  options.retry.initial_delay = absl::Milliseconds(1);
  options.retry.max_delay = absl::Milliseconds(20);
  options.retry.give_up_after = absl::Seconds(5);
  return options;
}

}  // namespace normlab::client
