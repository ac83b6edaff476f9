#include "common/atomic_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

#include "common/ids.h"
#include "common/status_macros.h"
#include "common/unique_fd.h"

namespace normlab::common {
namespace {

absl::Status Errno(absl::string_view what, absl::string_view path) {
  return absl::ErrnoToStatus(errno, absl::StrCat(what, " ", path));
}

}  // namespace

absl::Status WriteFileSynced(const std::string& path, absl::string_view contents, int mode) {
  const UniqueFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
  if (!fd.valid()) {
    return Errno("cannot create", path);
  }
  while (!contents.empty()) {
    const ssize_t written = write(fd.get(), contents.data(), contents.size());
    if (written < 0) {
      if (errno == EINTR) {
        continue;
      }
      return Errno("cannot write", path);
    }
    contents.remove_prefix(static_cast<size_t>(written));
  }
  if (fsync(fd.get()) != 0) {
    return Errno("cannot flush", path);
  }
  return absl::OkStatus();
}

absl::Status SyncFolder(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) {
    return Errno("cannot open folder", path);
  }
  if (fsync(fd.get()) != 0) {
    return Errno("cannot flush folder", path);
  }
  return absl::OkStatus();
}

absl::Status WriteFileAtomically(const std::string& path, absl::string_view contents, int mode) {
  const std::string temporary =
      absl::StrCat(path, ".", absl::BytesToHexString(RandomBytes(6)), ".tmp");
  absl::Status status = WriteFileSynced(temporary, contents, mode);
  if (status.ok() && rename(temporary.c_str(), path.c_str()) != 0) {
    status = Errno("cannot rename to", path);
  }
  if (!status.ok()) {
    unlink(temporary.c_str());
    return status;
  }
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return SyncFolder(folder.empty() ? "." : folder);
}

absl::StatusOr<std::string> ReadFile(const std::string& path, size_t max_bytes) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) {
    return Errno("cannot open", path);
  }
  std::string contents;
  // Growing step by step would need up to three times the memory of a large file.
  struct stat info {};
  if (fstat(fd.get(), &info) == 0 && info.st_size > 0) {
    contents.reserve(std::min(static_cast<size_t>(info.st_size), max_bytes));
  }
  char buffer[1 << 16];
  while (true) {
    const ssize_t got = read(fd.get(), buffer, sizeof(buffer));
    if (got < 0) {
      if (errno == EINTR) {
        continue;
      }
      return Errno("cannot read", path);
    }
    if (got == 0) {
      return contents;
    }
    contents.append(buffer, static_cast<size_t>(got));
    if (contents.size() > max_bytes) {
      return absl::ResourceExhaustedError(
          absl::StrCat(path, " is larger than the limit of ", max_bytes, " bytes"));
    }
  }
}

}  // namespace normlab::common
