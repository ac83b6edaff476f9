#pragma once

#include <cstdio>
#include <istream>
#include <string>
#include <vector>

namespace normlab::client {

// The program behind main: parses `arguments` (without the program's name), runs the command, and
// returns the exit code. Reads the environment variables NORMLAB_SERVER and NO_COLOR. Never throws.
// Used by tests with files of their own.
int RunCommandLine(const std::vector<std::string>& arguments,
                   std::istream& in,
                   std::FILE* out,
                   std::FILE* err);

}  // namespace normlab::client
