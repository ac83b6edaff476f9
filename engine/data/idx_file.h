#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace normlab::engine {

// What a caller demands of an IDX file before its contents are believed.
struct IdxExpectation {
  // 3 for images [count, height, width], 1 for labels [count].
  int rank = 1;
  // Sizes after the first, for example {28, 28}; empty for labels.
  std::vector<int64_t> item_dims;
};

// A decoded IDX file of unsigned bytes.
struct IdxArray {
  int64_t count = 0;
  // [count, item_dims...], row-major.
  std::vector<uint8_t> values;
};

// Reads an IDX file (LeCun's format: 00 00 08 rank, big-endian sizes, bytes), gzipped or not, from
// an open regular file at its start. Believes nothing: element type, rank, sizes, exact length and
// gzip's own checksum are checked, and no more memory is used than the header's plausible sizes
// need, however large the compressed file claims to be.
//
// `name` stands in messages. INVALID_ARGUMENT: the file is not what was expected (what was
// expected, what was found and what to do); INTERNAL: it cannot be read. Thread-safe; `fd` stays
// the caller's.
absl::StatusOr<IdxArray> ReadIdxFile(int fd,
                                     const std::string& name,
                                     const IdxExpectation& expected);

}  // namespace normlab::engine
