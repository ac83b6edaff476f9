#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace normlab::server {

// What starts the ranks of a job on this machine, when its worker is several processes.
struct RankPrograms {
  std::string mpirun;  // absolute path of Open MPI's launcher
  std::string worker;  // of normlab-worker-mpi
};

// The path of normlab-worker-mpi: beside `worker_binary` (normlab-worker).
std::string RankWorker(const std::string& worker_binary);

// Whether it is there. FAILED_PRECONDITION, with what to install.
absl::Status CheckRankWorker(const std::string& worker_binary);

// Looks for both: RankWorker, and mpirun on the fixed path that workers get. FAILED_PRECONDITION, with
// what to install, when one is missing.
absl::StatusOr<RankPrograms> FindRankPrograms(const std::string& worker_binary);

// argv that starts `ranks` processes of `threads` threads each. The assignment goes to its standard
// input, whose whole content rank 0 gets; nothing secret is in argv. `cores`: ranks * threads of them,
// shared out in order, so that every rank's OpenMP binds its threads to cores of its own; or empty
// (not pinned). Ranks talk through shared memory only: nothing listens on a network but the launcher,
// on the loopback interface. As root it says so, which Open MPI insists on. Killing the launcher ends
// the ranks; the death of one ends all, and the launcher with that rank's exit code (128 + the
// signal's number).
std::vector<std::string> LocalRankCommand(const RankPrograms& programs,
                                          int ranks,
                                          int threads,
                                          const std::vector<int>& cores);

}  // namespace normlab::server
