#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "common/unique_fd.h"

namespace normlab::engine {

// Which contents a file had when it was looked at: a changed file has another identity.
struct FileIdentity {
  uint64_t device = 0;
  uint64_t inode = 0;
  int64_t bytes = 0;
  int64_t modified_ns = 0;

  std::string ToString() const;
  friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
};

// INTERNAL: fstat failed.
absl::StatusOr<FileIdentity> IdentityOf(int fd);

// An open regular file of a data set. Owns its descriptor.
struct DataFile {
  common::UniqueFd fd;
  std::string path;  // for messages
  std::string name;  // as asked for, without folder and .gz
  FileIdentity identity;
};

// Opens the files `names` (each as it is, or with ".gz") of the folder `path`, which is relative to
// one of `roots`, tried in order, or absolute and below one of them. Nothing outside the roots is
// ever opened, and only regular files are. In the order of `names`, then those of `optional_names`
// that exist, in their order.
//
// NOT_FOUND: a sentence that lists every place looked at and what was missing there, without a
// remedy; FolderIsMissing tells whether not even the folder is there. Thread-safe.
absl::StatusOr<std::vector<DataFile>> OpenDataFiles(
    const std::string& path,
    absl::Span<const std::string> roots,
    absl::Span<const std::string> names,
    absl::Span<const std::string> optional_names = {});

// The same for one file, whose folder and name are in `path`.
absl::StatusOr<DataFile> OpenDataFile(const std::string& path, absl::Span<const std::string> roots);

// Of what OpenDataFiles or OpenDataFile answered: none of the places where the folder may lie has it (or
// the data root itself is not there), as when a disk is not mounted. False: a folder is there, and the
// files in it are the matter.
bool FolderIsMissing(const absl::Status& status);

// ABORTED: the file is not the one any more that was opened, so what was read of it may be neither
// the old contents nor the new ones; the message says to try again. Thread-safe.
absl::Status CheckUnchanged(const DataFile& file);

}  // namespace normlab::engine
