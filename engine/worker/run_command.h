#pragma once

#include "engine/parallel/communicator.h"

namespace normlab::engine {

// Runs one attempt: reads a serialized WorkerAssignment from `fd` to its end, trains, and reports
// to the server until that has everything. Sets up the whole process (priority, limits, signals),
// so it is called once, from main. Returns, or exits with, one of the codes of
// common/worker_exit.h. Takes `fd`.
int RunCommand(int fd);

// The same as one rank of several: rank 0 reads the assignment of all from `fd`, and reports. The
// process has been set up (SetUpProcess) before the communicator was made. Unless the code is
// kExitDone, other ranks may wait for this one in vain: the process must exit without waiting for
// them.
int RunRankCommand(int fd, Communicator& communicator);

}  // namespace normlab::engine
