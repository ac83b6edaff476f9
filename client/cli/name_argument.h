#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "client/cli/context.h"

#include "CLI/App.hpp"
#include "normlab/v1/job.pb.h"

namespace normlab::client {

// The names that a command works on. What is added outlives the parsing; none of it is thread-safe.

// The required argument JOB of `command`: one name, or (with a vector) one or more. A name of an
// experiment is refused there, with the command that is meant.
void AddJobArgument(CLI::App& command, std::string& name);
void AddJobArgument(CLI::App& command, std::vector<std::string>& names);

// The same for NAME of an experiment, below `normlab experiment`.
void AddExperimentArgument(CLI::App& command, std::string& name);
void AddExperimentArgument(CLI::App& command, std::vector<std::string>& names);

// Calls `act` for each name, in order, also after one that failed, as rm does; but no further once the
// server is gone. Prints every failure and returns the exit code of the worst.
int ActOnEach(CommandContext& context,
              const std::vector<std::string>& names,
              const std::function<absl::Status(const std::string& name)>& act);

// ActOnEach for calls that answer with the job. One job is printed whole, with `note` of it below;
// several as a line each, and with --output json each on one line.
int ActOnJobs(CommandContext& context,
              const std::vector<std::string>& names,
              const std::function<absl::StatusOr<normlab::v1::Job>(Client& client,
                                                                   const std::string& name)>& act,
              const std::function<std::string(const normlab::v1::Job& job)>& note);

}  // namespace normlab::client
