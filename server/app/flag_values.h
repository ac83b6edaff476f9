#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace normlab::server {

// Gives the flags of `known` the values that the arguments (without the program's name) say:
// --name=value, --name value, and for switches --name and --noname; --flagfile=FILE reads such
// arguments from a file, one a line. absl's own parser would end the process with its own words
// and the exit code of a failure.
//
// INVALID_ARGUMENT: an argument that is no flag, an unknown flag (with the nearest name), a value
// that the flag cannot take, a file that cannot be read. Flags before the wrong one are set.
absl::Status SetFlags(const std::vector<std::string>& arguments,
                      const std::vector<std::string>& known);

}  // namespace normlab::server
