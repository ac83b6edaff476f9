#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "server/store/connection.h"
#include "server/store/write_op.h"

// How jobs go away. One commit marks a job: from then on it is gone for everybody. What it left is
// removed afterwards in slices, each a commit of its own, because 80 MB at once would hold up every
// writer for a third of a second; a crash in between only delays the rest. All functions run inside
// the writer's transaction and may throw SQLite::Exception.
namespace normlab::server {

// A slice removes about so much.
inline constexpr int64_t kDeleteSliceBytes = int64_t{2} << 20;

struct DoomedJob {
  int64_t key = 0;
  std::string id;
  std::string owner;
  v1::Job::State state = v1::Job::STATE_UNSPECIFIED;
  std::string experiment = {};  // its watchers are told; empty: none, or nothing changes for them
};

// Takes a job (that is terminal or paused) away and remembers what is left to do.
void MarkDeleted(WriteContext& context, const DoomedJob& job, Effects& effects);

// A marked job whose remains are there still.
struct Deletion {
  int64_t job_key = 0;
  std::string job_id;
};
std::vector<Deletion> PendingDeletions(Connection& connection);

// Removes about kDeleteSliceBytes of a marked job's rows; false: none is left.
bool DeleteSlice(Connection& connection, int64_t job_key);

// The last step, once rows and files are gone.
void FinishDeletion(Connection& connection, int64_t job_key);

// Takes an experiment away, none of whose jobs waits or runs, and remembers that its jobs have to
// follow.
void MarkExperimentDeleted(WriteContext& context,
                           int64_t key,
                           const std::string& name,
                           Effects& effects);

// Names of the experiments that were taken away before all their jobs.
std::vector<std::string> PendingExperimentDeletions(Connection& connection);

// Marks up to some dozens of jobs of an experiment that was taken away; false: none was left, and the
// experiment is forgotten.
bool MarkJobsOfExperiment(WriteContext& context, const std::string& name, Effects& effects);

// Takes away up to some dozens of experiments that were created before `created_before` and none of
// whose jobs is left; false: there was none.
bool DeleteEmptyExperiments(WriteContext& context, absl::Time created_before);

// Marks up to some dozens of terminal jobs that ended before `ended_before`; false: there was none.
bool MarkExpired(WriteContext& context, absl::Time ended_before, Effects& effects);

// Removes up to a thousand request ids of jobs, and of experiments, from before `before`; false: there was none.
bool ForgetRequests(Connection& connection, absl::Time before);

// Gives about 2 MB of unused pages at the end of the file back to the disk, unless few are unused:
// they serve the next writes. False: nothing was done.
bool ShrinkFile(Connection& connection);

// What there is to do, for a reader; ended_before: none, nothing expires.
struct Housekeeping {
  bool requests = false;
  bool expired_jobs = false;
  bool empty_experiments = false;
  bool experiment_deletions = false;
  bool deletions = false;
  bool unused_pages = false;
};
Housekeeping FindHousekeeping(Connection& connection,
                              absl::Time requests_before,
                              std::optional<absl::Time> ended_before);

}  // namespace normlab::server
