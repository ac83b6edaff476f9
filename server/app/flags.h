#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "server/app/options.h"

namespace normlab::server {

// What the command line asks for besides running.
enum class CommandLineAction { kRun, kHelp, kVersion, kHealthCheck, kBackUp };

struct CommandLine {
  CommandLineAction action = CommandLineAction::kRun;
  RawOptions options;
  std::string backup;     // of kBackUp: the folder to make
  std::string log_level;  // trace, debug, info, warning, error
};

// Reads the flags. INVALID_ARGUMENT: see SetFlags; an unknown log level. Call once, from main.
absl::StatusOr<CommandLine> ParseFlags(int argc, char** argv);

// The text of --help: every flag with its default and its meaning, in groups.
std::string HelpText();

// Names of all flags of this program, in the order of the help; for a test that none is missing
// there.
std::vector<std::string> HelpFlagNames();

}  // namespace normlab::server
