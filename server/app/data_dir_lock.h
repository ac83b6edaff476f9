#pragma once

#include <string>

#include "absl/status/statusor.h"

#include "common/unique_fd.h"

namespace normlab::server {

// Holds <data_dir>/LOCK, with our process id inside, until destruction or the end of the process.
// Movable.
class DataDirLock {
 public:
  // FAILED_PRECONDITION, with the other's process id, when another server holds it.
  static absl::StatusOr<DataDirLock> Acquire(const std::string& data_dir);

 private:
  explicit DataDirLock(common::UniqueFd file) : file_(std::move(file)) {}
  common::UniqueFd file_;
};

// Makes a folder, and those above it, with `mode` unless it exists. Errors name the path and the
// reason.
absl::Status MakeFolder(const std::string& path, int mode);

}  // namespace normlab::server
