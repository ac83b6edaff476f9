#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

// What Slurm's commands print about jobs, read. Slurm 22.05 to 24.11 say the same in three ways (bare
// numbers, numbers with a "set", lists of states); all are understood. Pure.
namespace normlab::server {

// One job, or one element of an array.
struct SlurmRecord {
  int64_t job_id = 0;  // of the array, when it is an element
  std::optional<int64_t> task;
  std::string name;
  std::string state;   // PENDING, RUNNING, COMPLETED, ...
  std::string reason;  // of PENDING and FAILED: Resources, Priority, ...
  int exit_code = 0;
  int exit_signal = 0;
  absl::Time start = absl::InfiniteFuture();  // of what has begun
  std::string nodes;
  int processes = 1;  // as many as srun starts; only squeue says it

  // "4711", "4711_3".
  std::string Id() const;
};

// The jobs of `squeue --json` that are `user`'s and whose names begin with `prefix`. What waits of an array is one entry there,
// and one record an element here. DATA_LOSS: it is not what squeue prints.
absl::StatusOr<std::vector<SlurmRecord>> ParseSqueue(absl::string_view json,
                                                     absl::string_view prefix,
                                                     int64_t user);

// The job of `scontrol --oneliner show job`, or of a line of jobcomp/filetxt: KEY=VALUE with blanks
// between. DATA_LOSS.
absl::StatusOr<SlurmRecord> ParseKeyValues(absl::string_view line);

// Elements of an array as Slurm writes them: "0-3,7,10-20:5%2". Empty when it is not that.
std::vector<int64_t> ParseTaskRanges(absl::string_view text);

// The value of a name in `scontrol show config`; empty: it has none.
std::string ConfigValue(absl::string_view config, absl::string_view name);

}  // namespace normlab::server
