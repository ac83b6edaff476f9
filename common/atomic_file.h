#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace normlab::common {

// Makes `path` hold `contents`, durably and all at once: temporary file beside it, fsync, rename,
// fsync of the folder. A reader sees the old file or the new one, never a part. Errors carry the
// path.
absl::Status WriteFileAtomically(const std::string& path,
                                 absl::string_view contents,
                                 int mode = 0644);

// Flushes a folder's entries to the disk, so that a rename in it survives a power cut.
absl::Status SyncFolder(const std::string& path);

// Writes a new file and flushes it, without the rename: for files of a folder that is renamed as a
// whole.
absl::Status WriteFileSynced(const std::string& path, absl::string_view contents, int mode = 0644);

// The whole file. NOT_FOUND; RESOURCE_EXHAUSTED when it has more than `max_bytes`.
absl::StatusOr<std::string> ReadFile(const std::string& path, size_t max_bytes = size_t{1} << 30);

}  // namespace normlab::common
