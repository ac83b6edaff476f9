#pragma once

#include <cstdint>

#include "absl/status/statusor.h"

namespace normlab::common {

// Reads `size` bytes from byte `offset` of a file on into `to` and returns how many there were;
// fewer only at the file's end. Leaves the file's position alone. An error is as errno has it,
// without naming the file. Thread-safe.
absl::StatusOr<int64_t> ReadAt(int fd, void* to, int64_t size, int64_t offset);

}  // namespace normlab::common
