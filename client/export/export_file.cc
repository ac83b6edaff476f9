#include "client/export/export_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/atomic_file.h"
#include "common/status_macros.h"

namespace normlab::client {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 16;

std::string PartOf(const std::string& path) {
  return path + ".part";
}

absl::Status FileError(const std::string& path, const char* what, const std::string& why) {
  return absl::FailedPreconditionError(absl::StrCat(
      "cannot ", what, " ", path, ": ", why, "; give another place with -o, or make room there"));
}

}  // namespace

absl::Status MakeFolderOf(const std::string& path) {
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  std::error_code error;
  if (!folder.empty()) {
    std::filesystem::create_directories(folder, error);
  }
  if (error) {
    return FileError(folder.string(), "make the folder", error.message());
  }
  return absl::OkStatus();
}

absl::StatusOr<ExportFile> ExportFile::Create(const std::string& path) {
  NORMLAB_RETURN_IF_ERROR(MakeFolderOf(path));
  common::UniqueFd file(open(PartOf(path).c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!file.valid()) {
    return FileError(path, "write", std::strerror(errno));
  }
  return ExportFile(path, std::move(file));
}

ExportFile::ExportFile(std::string path, common::UniqueFd file)
    : path_(std::move(path)), file_(std::move(file)) {}

ExportFile::~ExportFile() {
  if (file_.valid()) {
    std::remove(PartOf(path_).c_str());
  }
}

absl::Status ExportFile::Write(absl::string_view bytes) {
  buffer_.append(bytes.data(), bytes.size());
  bytes_ += static_cast<int64_t>(bytes.size());
  return buffer_.size() >= kBufferBytes ? Flush() : absl::OkStatus();
}

absl::Status ExportFile::Flush() {
  absl::string_view left = buffer_;
  while (!left.empty()) {
    const ssize_t count = write(file_.get(), left.data(), left.size());
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      return FileError(path_, "write", std::strerror(errno));
    }
    left.remove_prefix(static_cast<size_t>(count));
  }
  buffer_.clear();
  return absl::OkStatus();
}

absl::Status ExportFile::Finish() {
  NORMLAB_RETURN_IF_ERROR(Flush());
  if (fsync(file_.get()) != 0) {
    return FileError(path_, "flush", std::strerror(errno));
  }
  if (std::rename(PartOf(path_).c_str(), path_.c_str()) != 0) {
    return FileError(path_, "create", std::strerror(errno));
  }
  file_.Reset();
  return common::SyncFolder(std::filesystem::absolute(path_).parent_path().string());
}

}  // namespace normlab::client
