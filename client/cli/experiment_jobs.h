#pragma once

#include <string>

#include "client/cli/context.h"

#include "normlab/v1/experiments.pb.h"

namespace normlab::client {

// Commands on the jobs of an experiment. None is thread-safe; each returns an exit code.

// Pauses every job that waits or runs, those at the end of the queue first. Again and again is no harm:
// jobs that rest, have ended or are being cancelled stay as they are.
int PauseExperiment(CommandContext& context, const std::string& name);

// Takes every pause back, of the oldest job first.
int ResumeExperiment(CommandContext& context, const std::string& name);

// What the server says of jobs that run but do not get on, a line each; when none runs, why the newest
// that waits does. Empty: nothing to say, or the server does not answer.
std::string JobRemarks(Client& client, const normlab::v1::Experiment& experiment);

}  // namespace normlab::client
