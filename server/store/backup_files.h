#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// What a backup does with files. Errors carry the path: UNAVAILABLE (cannot be read or written),
// RESOURCE_EXHAUSTED (no room), DATA_LOSS (not what it should be). Links are never followed.
namespace normlab::server {

struct CopiedFiles {
  int64_t files = 0;
  int64_t bytes = 0;
};

// Makes `to`/`path` another name of the file `from`/`path`, which is made a copy where the file system
// has no hard links; one that is there already stays. False: there is no such file.
absl::StatusOr<bool> LinkFile(const std::string& from,
                              const std::string& path,
                              const std::string& to);
// The same for all files right in a folder. False: it is not there, or has lost a file meanwhile.
absl::StatusOr<bool> LinkFolder(const std::string& from,
                                const std::string& path,
                                const std::string& to);

// Copies files, folders and links below `from`, if there is such a folder, to `to`, with their
// permissions and times. Files that `sha256` names, relative to `from`, must have that hash.
absl::StatusOr<CopiedFiles> CopyTree(const std::string& from,
                                     const std::string& to,
                                     const std::map<std::string, std::string>& sha256);
// Copies the logs of the workers of all jobs below `from` to the same places below `to`, as far as
// they are written.
absl::StatusOr<CopiedFiles> CopyLogs(const std::string& from, const std::string& to);

absl::Status RemoveFolder(const std::string& path);

// Everything written to the file system of `path` is on the disk afterwards.
absl::Status FlushFilesystem(const std::string& path);

}  // namespace normlab::server
