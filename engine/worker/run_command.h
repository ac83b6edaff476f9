#pragma once

#include <string>

#include "engine/parallel/communicator.h"
#include "engine/worker/signals.h"

namespace normlab::engine {

// Runs one attempt: reads a serialized WorkerAssignment from `fd` to its end, trains, and reports
// to the server until that has everything. Sets up the whole process (priority, limits, signals),
// so it is called once, from main. Returns, or exits with, one of the codes of
// common/worker_exit.h. Takes `fd`.
//
// `server_ca_file`: certificates (PEM) of the authorities that vouch for the server, which is then spoken
// to with TLS; empty: without.
//
// SIGTERM ends the training without an outcome after the current step, a second one at once. SIGUSR1 ends it
// with a checkpoint, as PREEMPTED, so that the job goes on from there in another attempt.
int RunCommand(int fd, const std::string& server_ca_file = "");

// The same with the assignment in a file, which only its owner can have read, and which is removed before
// anything else is done. kExitRunAgain when it is not there, kExitUsage when others can read it.
int RunFileCommand(const std::string& path, const std::string& server_ca_file);

// The same as one rank of several: rank 0 reads the assignment of all from `fd`, and reports. The
// process has been set up (SetUpProcess, HoldSignals) before the communicator was made. Unless the code is
// kExitDone, other ranks may wait for this one in vain: the process must exit without waiting for
// them.
int RunRankCommand(int fd, Communicator& communicator);

// The same for ranks that Slurm's srun has started, on several machines perhaps: rank 0 reads and removes
// the file of RunFileCommand, and the authorities of the server; every rank sees the attempt's folder.
// Signals have been taken (TakeSignals), and SIGTERM ends a rank at once with kExitRankTerminated: it cannot
// end its step without the others. kExitRankUsage instead of kExitUsage.
int RunRankFileCommand(const std::string& path,
                       const std::string& server_ca_file,
                       Communicator& communicator,
                       const SignalWishes& signals);

}  // namespace normlab::engine
