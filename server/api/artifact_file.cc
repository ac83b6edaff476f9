#include "server/api/artifact_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

#include "common/open_beneath.h"

namespace normlab::server {
namespace {

using common::UniqueFd;

absl::Status OpenError(int error, const std::string& path) {
  const std::string message = absl::StrCat(path, ": ", std::strerror(error));
  return error == ENOENT || error == ENOTDIR ? absl::NotFoundError(message)
                                             : absl::FailedPreconditionError(message);
}

}  // namespace

absl::StatusOr<UniqueFd> OpenArtifactFile(const std::string& work_dir, const std::string& path) {
  const UniqueFd root(open(work_dir.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid()) {
    return OpenError(errno, work_dir);
  }
  // Not waiting for the other end, should it be a pipe.
  absl::StatusOr<UniqueFd> file =
      common::OpenBeneath(root.get(), path, O_RDONLY | O_NONBLOCK, common::Links::kNone);
  if (!file.ok()) {
    const std::string message(file.status().message());
    return absl::IsNotFound(file.status()) ? absl::NotFoundError(message)
                                           : absl::FailedPreconditionError(message);
  }
  struct stat info = {};
  if (fstat(file->get(), &info) != 0) {
    return OpenError(errno, path);
  }
  if (!S_ISREG(info.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat(path, ": no regular file"));
  }
  return file;
}

}  // namespace normlab::server
