#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "server/store/store.h"

// Whether the work folder is the one that the jobs of a database have their files in, and usable. A
// folder that is not mounted looks like an empty one, and taking it for the real one would begin jobs
// anew that have checkpoints. So the folder has a mark, a file with a random text, and the same is kept
// beside the database. All of this blocks for disk; thread-safe.
namespace normlab::server {

// The file with the mark, in both folders.
inline constexpr char kWorkMarkFile[] = "WORK_FOLDER";

// OK when the folder has that mark (empty: whatever it has) and its disk has so much free. UNAVAILABLE,
// with what to do.
absl::Status CheckWorkFolder(const std::string& work_dir,
                             const std::string& mark,
                             int64_t least_free_bytes);

// The same, but when there is not so much free, decoded data sets that nobody has used for a while go
// from the cache folder first.
absl::Status MakeRoom(const std::string& work_dir,
                      const std::string& cache_dir,
                      const std::string& mark,
                      int64_t least_free_bytes);

// Whether the work folder is there and has the mark that the data folder knows, for those who take from it
// without starting a server: a backup of an unmounted or mistyped one would lack all checkpoints and
// weights. A data folder without a mark (a restored backup that was never started) takes any that is there.
//
// FAILED_PRECONDITION: it is not there, or another; UNAVAILABLE and others: it cannot be read.
absl::Status CheckWorkFolderIsKnown(const std::string& data_dir, const std::string& work_dir);

// Whether the data folder knows a work folder, and what is there is another one, or nothing: a mount point
// without its disk. That is not ours to write to.
bool IsAnotherWorkFolder(const std::string& data_dir, const std::string& work_dir);

struct WorkFolderOptions {
  std::string data_dir;  // of the database; exists
  std::string work_dir;  // exists
  // What an operator says is meant.
  bool accept_new_work_dir = false;
  bool accept_new_database = false;
};

// Before the store is opened, which would make a database: FAILED_PRECONDITION when there is none, or an
// empty file, although the work folder has files of jobs, unless accept_new_database.
absl::Status CheckDatabaseIsThere(const WorkFolderOptions& options);

// At a start: marks a folder that is new to the database, and answers with the mark to look for from now
// on (empty: it could not be marked, for want of room perhaps). One that should have another mark is said
// in the log and left alone: CheckWorkFolder then refuses it until the right one is there.
//
// FAILED_PRECONDITION: the database has never had a job, but the folder is full of them (it was lost, or
// is another one), unless accept_new_database; or it knows jobs with checkpoints, of a time before there were
// marks, and the folder has none, unless accept_new_work_dir. Errors of the store pass.
absl::StatusOr<std::string> ClaimWorkFolder(Store& store, const WorkFolderOptions& options);

}  // namespace normlab::server
