#include "engine/worker/folder_watch.h"

#include <sys/stat.h>

#include <cerrno>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace normlab::engine {

absl::StatusOr<FolderWatch> FolderWatch::Create(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot use the folder ", path));
  }
  if (!S_ISDIR(info.st_mode)) {
    return absl::NotFoundError(absl::StrCat(path, " is not a folder"));
  }
  return FolderWatch(path, info.st_dev, info.st_ino);
}

bool FolderWatch::IsGone() const {
  struct stat info {};
  if (stat(path_.c_str(), &info) != 0) {
    return errno == ENOENT || errno == ENOTDIR;
  }
  return info.st_dev != device_ || info.st_ino != inode_;
}

}  // namespace normlab::engine
