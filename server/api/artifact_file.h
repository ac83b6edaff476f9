#pragma once

#include <string>

#include "absl/status/statusor.h"

#include "common/unique_fd.h"

namespace normlab::server {

// Opens a regular file below `work_dir` for reading. `path` is relative; no component of it may be
// a link or lead out, whatever happens to the folders meanwhile (openat2, or a walk without links
// where the kernel or a container's filter has none). NOT_FOUND: there is no such file; else
// FAILED_PRECONDITION. Blocks for disk; thread-safe; the caller owns the descriptor.
absl::StatusOr<common::UniqueFd> OpenArtifactFile(const std::string& work_dir,
                                                  const std::string& path);

}  // namespace normlab::server
