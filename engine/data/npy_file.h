#pragma once

#include <string>

#include "absl/status/statusor.h"

#include "engine/data/array.h"

namespace normlab::engine {

// Reads a NumPy array file (.npy, format versions 1 to 3) from its start: magic, a Python literal
// with dtype, order and shape, the values. Believes nothing: dtype, order, sizes and exact length
// are checked, and no more memory is used than the file has values.
//
// `name` stands in messages. INVALID_ARGUMENT: not such a file, truncated or with bytes after its
// end; more than `limit` bytes of values; big-endian values, Fortran order, or a dtype other than integers and floats (each with what
// to do). Errors of `read` as they are. Thread-safe.
absl::StatusOr<Array> ReadNpy(ReadFunction read,
                              const std::string& name,
                              int64_t limit = kMaxDatasetBytes);

}  // namespace normlab::engine
