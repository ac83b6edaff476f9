#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "server/executor/executor.h"
#include "server/executor/slurm_submission.h"

namespace normlab::server {

struct SlurmOptions {
  std::string worker_binary;  // absolute path of normlab-worker, the same on every node
  std::string work_dir;       // absolute; every node sees it at the same path
  // Certificates (PEM) of the authorities that vouch for the server's listener for workers, at a path that
  // every node has too; empty: workers speak to it without TLS.
  std::string server_ca_file;
  // Tells this server's jobs from another one's: part of their names. Letters and digits.
  std::string server_id;
  // Of the commands; empty: PATH.
  std::string bin;
  // How srun starts the ranks of jobs that have several (its --mpi).
  std::string mpi = "pmix";
  SlurmWishes wishes;
  int max_attempts = 1000;
  absl::Duration poll_interval = absl::Seconds(2);
  absl::Duration command_timeout = absl::Seconds(30);
};

// Runs attempts as jobs of Slurm, by its commands: `sbatch` with a script that only starts the worker,
// `squeue --json` for all of them at once every poll_interval, `scancel`. Attempts of one group that wait to
// be handed over while a command runs go as one array, or as several where Slurm's MaxArraySize is smaller.
//
// A job is named normlab-<server>-<job>-<attempt> (an array normlab-<server>-array-<id>, with the list of
// its attempts in <work_dir>/slurm/<name>/attempts): so an attempt whose answer was lost, or whose identity
// was never stored, is found before anything is submitted again. Slurm's own requeueing is off: an attempt
// that Slurm ends, for whatever reason, is over, and the next one has its own secret.
//
// The worker gets its assignment in a file of mode 0600 in the attempt's folder, which it removes at once.
//
// An attempt of several processes (data_parallel.ranks) is one job of as many tasks, on one node or several:
// its script starts normlab-worker-mpi, beside normlab-worker, by srun, from `bin` on the nodes too.
//
// When Slurm does not answer, nothing is known and nothing is lost: views are kUnknown, submissions are
// answered UNAVAILABLE, and Health says why. Records that Slurm has forgotten (MinJobAge) are looked for in
// the file of jobcomp/filetxt, where that is configured and can be read.
//
// Thread-safe; two threads of its own, one for sbatch and scancel and one that polls. Destroying it leaves
// the jobs alone.
//
// FAILED_PRECONDITION: Slurm does not answer, with its own words and what to do.
absl::StatusOr<std::unique_ptr<Executor>> NewSlurmExecutor(SlurmOptions options);

}  // namespace normlab::server
