#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "server/executor/executor.h"

// What is handed to sbatch: arguments, a tiny script, and beside it a file for each worker.
namespace normlab::server {

// Words of sbatch(1); empty and zero: not said.
struct SlurmWishes {
  std::string partition;
  std::string account;
  std::string constraint;
  std::string qos;
  absl::Duration time_limit = absl::ZeroDuration();

  friend bool operator==(const SlurmWishes&, const SlurmWishes&) = default;
};

// What Slurm reserves for an attempt. Those with equal shapes may be elements of one array.
struct SlurmShape {
  SlurmWishes wishes;
  int ranks = 1;             // processes
  int cores = 1;             // of each
  int64_t memory_bytes = 0;  // of all

  friend bool operator==(const SlurmShape&, const SlurmShape&) = default;
};

// The job's wishes before the server's.
SlurmShape ShapeOf(const v1::WorkerAssignment& assignment, const SlurmWishes& server);

// The file in the attempt's folder that hands the assignment over; the worker removes it.
std::string AssignmentPath(const std::string& attempt_folder);
// Only its owner can read it. An error leaves no file.
absl::Status WriteAssignment(const v1::WorkerAssignment& assignment);

// In single quotes for sh: what's -> 'what'\''s'.
std::string ShellQuoted(absl::string_view text);

// How a script starts the worker, or its ranks.
struct WorkerCommand {
  std::string binary;
  std::string server_ca_file;  // empty: none
  // What starts the ranks of a job that has several: srun, the worker that each of them is, and the kind of
  // MPI in srun's words.
  std::string srun = "srun";
  std::string rank_binary{};
  std::string mpi = "pmix";
};

// The script of one attempt. Its exit code is the worker's; of several ranks the highest, or 128 and the
// number of the signal that ended one.
std::string ScriptOf(const WorkerCommand& worker,
                     const SlurmShape& shape,
                     const v1::WorkerAssignment& assignment);
// The script of an array; element i finds its attempt in line i + 1 of the list that ListOf made.
std::string ArrayScript(const WorkerCommand& worker,
                        const SlurmShape& shape,
                        const std::string& list_path);

// Lines "<job> <number> <attempt folder>".
struct ListedAttempt {
  AttemptKey attempt;
  std::string folder;
};
std::string ListOf(const std::vector<ListedAttempt>& attempts);
std::vector<ListedAttempt> ParseList(absl::string_view text);

// How long before Slurm's limit the worker is asked for a checkpoint: a quarter of it, a minute at most.
// (Slurm may ask a minute earlier than that.)
absl::Duration EarlySignal(absl::Duration time_limit);

struct SbatchJob {
  std::string name;
  std::string script;  // path
  std::string log_path;
  std::string folder;  // to run in
  SlurmShape shape;
  int elements = 0;  // of an array; 0: none
};
// Arguments of sbatch, without its own name.
std::vector<std::string> SbatchArguments(const SbatchJob& job);

// The id that sbatch --parsable printed: "4711" or "4711;cluster". DATA_LOSS.
absl::StatusOr<int64_t> ParseSbatch(absl::string_view output);

}  // namespace normlab::server
