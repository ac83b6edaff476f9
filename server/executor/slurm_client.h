#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

#include "server/executor/slurm_records.h"
#include "server/executor/slurm_submission.h"

namespace normlab::server {

// Slurm's commands, run and read. Every call blocks until its command has ended. Errors carry Slurm's own
// words: INVALID_ARGUMENT when it refuses for good, UNAVAILABLE when it does not answer or has no room now.
// Thread-safe.
class SlurmClient {
 public:
  // `bin`: folder of the commands; empty: PATH.
  SlurmClient(std::string bin, absl::Duration timeout);

  struct Config {
    std::string version;
    int max_array_size = 1001;
    std::string job_completions;  // file of jobcomp/filetxt; empty: none
  };
  absl::StatusOr<Config> GetConfig() const;

  // `environment` is the job's as well. UNAVAILABLE with nothing submitted, or, when the command was ended
  // for taking too long, DEADLINE_EXCEEDED: it may have been.
  absl::StatusOr<int64_t> Submit(const SbatchJob& job,
                                 const std::vector<std::string>& environment) const;

  // All jobs whose names begin with `prefix`.
  absl::StatusOr<std::vector<SlurmRecord>> Jobs(const std::string& prefix) const;
  // One of them; NOT_FOUND: Slurm has forgotten it.
  absl::StatusOr<SlurmRecord> Job(const std::string& id) const;

  enum class Cancel {
    kWaiting,     // those that do not run yet
    kAll,         // SIGTERM, some time later SIGKILL
    kCheckpoint,  // SIGUSR1 to the worker
    kStop,        // SIGTERM to the worker, where that is one process
    kStopRanks,   // SIGTERM to each of its processes; srun would end them with SIGKILL
    kKill,        // SIGKILL to the worker
  };
  // Of jobs that are gone already: OK.
  absl::Status Signal(Cancel how, absl::Span<const std::string> ids) const;

 private:
  absl::StatusOr<std::string> Run(const std::string& command,
                                  std::vector<std::string> arguments,
                                  const std::vector<std::string>& environment = {}) const;

  const std::string bin_;
  const absl::Duration timeout_;
  const std::vector<std::string> environment_;
};

// The last record of a job in a file of jobcomp/filetxt, looked for in its last megabytes. NOT_FOUND.
absl::StatusOr<SlurmRecord> FindCompletion(const std::string& path,
                                           int64_t job_id,
                                           std::optional<int64_t> task);

// The environment in which Slurm's commands run, beside a worker's: where they find their configuration.
std::vector<std::string> SlurmEnvironment();

}  // namespace normlab::server
