#pragma once

#include <string>

#include "absl/status/status.h"

#include "client/lib/client.h"

namespace normlab::client {

// Downloads an artifact to `path`, which appears at once and only when its SHA-256 is right. What
// has come so far is kept beside it, in `path`.part, and a later call for the same artifact goes on
// from there. DATA_LOSS: the bytes that came are not those that were written; then the part is
// removed. Errors of files name them. Blocks; thread-safe for different paths.
absl::Status DownloadArtifact(Client& client,
                              const normlab::v1::Artifact& artifact,
                              const std::string& path);

}  // namespace normlab::client
