#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace normlab::server {

struct BackupOptions {
  std::string data_dir;  // of a server that runs or not
  std::string work_dir;  // below which its jobs have their files
  std::string target;    // a folder that is not there yet
};

struct BackupSummary {
  std::string target;  // absolute
  int64_t jobs = 0;
  int schema = 0;
  int64_t database_bytes = 0;
  int64_t job_files = 0;
  int64_t job_file_bytes = 0;
  int64_t dataset_files = 0;
  int64_t dataset_bytes = 0;
  int64_t missing_files = 0;  // that the database names and the work folder does not have
  double seconds = 0;
};

// Copies a data folder into `target`, which becomes a data folder that a server can be started on:
// the database as it is at one moment, the checkpoints, final weights and logs of its jobs of that
// same moment below work/, and the data sets below datasets/. What can be made again (decoded data
// sets) is left out. A server may be writing meanwhile, and is not held up: the database is read in
// one transaction of its write-ahead log, files are never changed once they have their name, and
// get a second one (a hard link) in the same transaction, so that none can go away before it is copied.
//
// In the copy no attempt has a process: a server started on it re-queues what was running, from its
// last checkpoint, and touches no worker of the original. Files are compared with the SHA-256 that the
// database has of them, and the copied database is checked. `target` appears whole or not at all.
//
// NOT_FOUND: there is no database; ALREADY_EXISTS: the target; FAILED_PRECONDITION: a schema that is
// not this version's, another backup is being made, or the target cannot be made; DATA_LOSS: something stored is damaged;
// UNAVAILABLE: files cannot be read or written. Blocks.
absl::StatusOr<BackupSummary> BackUp(const BackupOptions& options);

}  // namespace normlab::server
