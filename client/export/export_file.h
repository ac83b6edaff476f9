#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "common/unique_fd.h"

namespace normlab::client {

// Makes the folders that `path` lies in. FAILED_PRECONDITION, with the folder: they cannot be made.
// Thread-safe.
absl::Status MakeFolderOf(const std::string& path);

// A file that appears when it is complete: written beside its place, flushed and renamed by Finish.
// What was written without Finish is removed again. Not thread-safe; movable.
class ExportFile {
 public:
  // Makes missing folders too. FAILED_PRECONDITION, with the path: it cannot be written.
  static absl::StatusOr<ExportFile> Create(const std::string& path);
  ExportFile(ExportFile&& other) noexcept = default;
  ExportFile& operator=(ExportFile&&) = delete;
  ~ExportFile();

  absl::Status Write(absl::string_view bytes);
  absl::Status Finish();

  int64_t bytes() const { return bytes_; }

 private:
  ExportFile(std::string path, common::UniqueFd file);
  absl::Status Flush();

  std::string path_;
  common::UniqueFd file_;
  std::string buffer_;
  int64_t bytes_ = 0;
};

}  // namespace normlab::client
