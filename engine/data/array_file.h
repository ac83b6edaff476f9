#pragma once

#include <map>
#include <string>

#include "absl/status/statusor.h"

#include "engine/data/array.h"

namespace normlab::engine {

// Reads a .npy file, gzipped or not, from an open regular file at its start. Errors as ReadNpy.
// `name` stands in messages. Thread-safe; the descriptor stays the caller's.
absl::StatusOr<Array> ReadNpyFile(int fd,
                                  const std::string& name,
                                  int64_t limit = kMaxDatasetBytes);

// The arrays x_train, y_train, x_test and y_test of a .npz or .safetensors file (told apart by their
// first bytes): each by its name, or what is wrong with it. Other arrays of the file are not
// looked at. `limit`: bytes of values of the four together.
//
// INVALID_ARGUMENT, of the whole: the file is neither, or its directory is damaged; of an array: it
// is missing, or as ReadNpy. INTERNAL: the file cannot be read. Thread-safe; the descriptor stays
// the caller's.
absl::StatusOr<std::map<std::string, absl::StatusOr<Array>>> ReadArchive(
    int fd, const std::string& name, int64_t limit = kMaxDatasetBytes);

}  // namespace normlab::engine
