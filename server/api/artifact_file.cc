#include "server/api/artifact_file.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "common/status_macros.h"

namespace normlab::server {
namespace {

using common::UniqueFd;

absl::Status OpenError(int error, const std::string& path) {
  const std::string message = absl::StrCat(path, ": ", std::strerror(error));
  return error == ENOENT || error == ENOTDIR ? absl::NotFoundError(message)
                                             : absl::FailedPreconditionError(message);
}

// Where there is no openat2: one component after the other.
UniqueFd Walk(int root, const std::string& path) {
  const std::vector<std::string> parts = absl::StrSplit(path, '/');
  UniqueFd folder(openat(root, ".", O_PATH | O_DIRECTORY | O_CLOEXEC));
  for (size_t i = 0; folder.valid() && i < parts.size(); ++i) {
    if (parts[i].empty() || parts[i] == "." || parts[i] == "..") {
      errno = EXDEV;
      return UniqueFd();
    }
    const int flags = i + 1 == parts.size() ? O_RDONLY | O_NONBLOCK : O_PATH | O_DIRECTORY;
    folder = UniqueFd(openat(folder.get(), parts[i].c_str(), flags | O_NOFOLLOW | O_CLOEXEC));
  }
  return folder;
}

}  // namespace

absl::StatusOr<UniqueFd> OpenArtifactFile(const std::string& work_dir, const std::string& path) {
  const UniqueFd root(open(work_dir.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid()) {
    return OpenError(errno, work_dir);
  }
  open_how how{};
  // Not waiting for the other end, should it be a pipe.
  how.flags = O_RDONLY | O_NONBLOCK | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;
  UniqueFd file(
      static_cast<int>(syscall(SYS_openat2, root.get(), path.c_str(), &how, sizeof(how))));
  if (!file.valid() && (errno == ENOSYS || errno == EPERM)) {
    file = Walk(root.get(), path);
  }
  if (!file.valid()) {
    return OpenError(errno, path);
  }
  struct stat info = {};
  if (fstat(file.get(), &info) != 0) {
    return OpenError(errno, path);
  }
  if (!S_ISREG(info.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat(path, ": no regular file"));
  }
  return file;
}

}  // namespace normlab::server
