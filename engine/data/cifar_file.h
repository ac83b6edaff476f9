#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "engine/spec/limits.h"

namespace normlab::engine {

// The two binary CIFAR formats (Krizhevsky 2009): records of label bytes and 3x32x32 pixels.
struct CifarFormat {
  // 1 for CIFAR-10; 2 for CIFAR-100, a coarse label and then the fine one.
  int label_bytes = 1;
  // Of the last label byte, which is the one that counts.
  int32_t classes = 10;
};

struct CifarRecords {
  std::vector<int32_t> labels;
  std::vector<uint8_t> images;  // [N, 3, 32, 32]
};

// Reads a file, gzipped or not, from an open regular file at its start. `name` stands in messages.
// `limit`: bytes of images that the other files of the set leave.
// INVALID_ARGUMENT: empty, not whole records, more than `limit`, or a label out of range
// (with its index); INTERNAL: it cannot be read. Thread-safe; the descriptor stays the caller's.
absl::StatusOr<CifarRecords> ReadCifarFile(int fd,
                                           const std::string& name,
                                           const CifarFormat& format,
                                           int64_t limit = kMaxDatasetBytes);

}  // namespace normlab::engine
