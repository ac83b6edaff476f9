#pragma once

#include <optional>
#include <string>

#include "absl/time/time.h"

#include "server/executor/executor.h"
#include "server/executor/slurm_records.h"

// What Slurm's states mean for an attempt. Pure.
namespace normlab::server {

// Of a job that is over: how it ended; `killed`: we had it cancelled. Nothing while it is not over.
std::optional<ProcessExit> ExitOf(const SlurmRecord& record, bool killed);

// Of one that is not: whether it waits, for what and where it runs.
AttemptView ViewOf(const SlurmRecord& record, absl::Time now);

// Whether these words of sbatch say that a limit of jobs is reached: this one has to wait, others may not.
bool IsLimit(absl::string_view errors);

// Whether they say that it may work another time: Slurm does not answer, or is overloaded. Anything else
// refuses the job.
bool IsTransientRefusal(absl::string_view errors);

}  // namespace normlab::server
