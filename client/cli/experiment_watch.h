#pragma once

#include <string>

#include "client/cli/context.h"
#include "client/cli/interrupt.h"
#include "client/lib/client.h"

#include "normlab/v1/experiments.pb.h"

namespace normlab::client {

// Follows an experiment to the end of its last job and shows it: on a terminal a table of cells that
// is drawn anew, in a pipe a line a change, with --output json the Experiment a line a change.
// `final_only`: nothing but the end. Returns the exit code of ExperimentExitCode; 130 after Ctrl-C,
// which leaves the experiment running and says so.
int WatchExperimentToEnd(CommandContext& context,
                         Client& client,
                         const InterruptScope& interrupt,
                         const std::string& name,
                         bool final_only);

// 0 when every job gave a result (SUCCEEDED or DIVERGED), 1 when some failed, else 5: some were
// cancelled.
int ExperimentExitCode(const normlab::v1::JobCounts& counts);

}  // namespace normlab::client
