#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace normlab::server {

struct CommandOptions {
  std::vector<std::string> argv;         // argv[0] is a path, or a name to be looked for in PATH
  std::vector<std::string> environment;  // NAME=VALUE, the complete environment
  absl::Duration timeout = absl::Seconds(30);
  // More of either output ends the command.
  size_t max_output_bytes = size_t{256} << 20;
};

struct CommandResult {
  int code = -1;  // exit code; 128 + number of a signal
  std::string output;
  std::string errors;
};

// Runs a program to its end, without a shell, with nothing on its standard input and none of our
// descriptors, in a session of its own. DEADLINE_EXCEEDED: it was killed after the timeout;
// RESOURCE_EXHAUSTED: because it wrote too much; NOT_FOUND: there is no such program; INTERNAL: it could
// not be started. An exit code that is not 0 is no error here. Blocks; thread-safe.
absl::StatusOr<CommandResult> RunCommand(const CommandOptions& options);

}  // namespace normlab::server
