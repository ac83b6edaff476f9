#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace normlab::server {

// Removes <work_dir>/jobs/<job_id> with everything in it; OK when it is not there. Links are
// removed, never followed. `job_id` must be a valid id. Blocks for disk; thread-safe. UNAVAILABLE:
// something could not be removed.
absl::Status RemoveJobFiles(const std::string& work_dir, const std::string& job_id);

// Removes the checkpoints of a job's attempts before `before`. UNAVAILABLE: one cannot be removed;
// the others are all the same. INTERNAL: the id is none.
absl::Status RemoveCheckpointFolders(const std::string& work_dir,
                                     const std::string& job_id,
                                     int32_t before);

}  // namespace normlab::server
