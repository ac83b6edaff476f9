#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace normlab::common {

// Of a disk, in bytes.
struct DiskSpace {
  int64_t size_bytes = 0;
  int64_t free_bytes = 0;  // that we may still write
  bool read_only = false;
};

// The disk below `path`. Takes as long as that disk does; thread-safe. The error says why it cannot be
// looked at, without the path.
absl::StatusOr<DiskSpace> LookAtDisk(const std::string& path);

}  // namespace normlab::common
