#pragma once

#include <sys/types.h>

#include <string>

#include "absl/status/statusor.h"

namespace normlab::engine {

// Tells when a folder was removed or replaced: a worker whose attempt folder is gone was given up
// by its server. Thread-safe; a value.
class FolderWatch {
 public:
  // NOT_FOUND: there is no such folder.
  static absl::StatusOr<FolderWatch> Create(const std::string& path);

  // True once the path does not lead to the same folder any more. Trouble with the file system that
  // may pass does not count.
  bool IsGone() const;

 private:
  FolderWatch(std::string path, dev_t device, ino_t inode)
      : path_(std::move(path)), device_(device), inode_(inode) {}

  std::string path_;
  dev_t device_;
  ino_t inode_;
};

}  // namespace normlab::engine
