#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "server/executor/executor.h"

namespace normlab::server {

struct LocalProcessOptions {
  std::string worker_binary;  // absolute path of normlab-worker
};

// Runs attempts as child processes of this machine: `<worker_binary> --run`, with the assignment on
// descriptor 3 and nothing secret in argv or the environment; attempts of several ranks as
// LocalRankCommand has it, of which the launcher is the process that counts. One thread of its own watches the
// processes' pidfds.
//
// Destroying it leaves the processes alone: they outlive the server, and the next one adopts them.
// FAILED_PRECONDITION: worker_binary cannot be run.
absl::StatusOr<std::unique_ptr<Executor>> NewLocalProcessExecutor(LocalProcessOptions options);

// The whole environment of a worker: a fixed PATH and locale, how OpenMP shall run `threads`
// threads on `cores` (empty: not pinned; threads then do not spin, for they may share cores), and
// of our own environment only what helps to diagnose: sanitizers' options, oneDNN's and gRPC's
// variables, the library path.
std::vector<std::string> WorkerEnvironment(int threads, const std::vector<int>& cores);

// Cores as OMP_PLACES has them, one a thread: "{0},{2}".
std::string OpenMpPlaces(const std::vector<int>& cores);

}  // namespace normlab::server
