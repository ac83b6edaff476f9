#include "server/app/worker_socket.h"

#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/sha256.h"
#include "common/status_macros.h"
#include "server/app/data_dir_lock.h"

namespace normlab::server {
namespace {

constexpr char kSocketName[] = "/worker.sock";
// The terminating zero takes one of 108.
constexpr size_t kMaxPathBytes = sizeof(sockaddr_un::sun_path) - 1;

// A folder that nobody else can have put there or can enter.
absl::Status CheckPrivate(const std::string& folder) {
  struct stat info {};
  if (lstat(folder.c_str(), &info) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot look at ", folder, ": ", std::strerror(errno)));
  }
  if (!S_ISDIR(info.st_mode) || info.st_uid != geteuid()) {
    return absl::FailedPreconditionError(
        absl::StrCat(folder, " is not a folder of this user; remove it and start again"));
  }
  if ((info.st_mode & 077) != 0 && chmod(folder.c_str(), 0700) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot make ", folder, " private: ", std::strerror(errno)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> PrepareWorkerSocket(const std::string& data_dir,
                                                const std::string& temporary_folder) {
  std::string folder = data_dir + "/run";
  if (folder.size() + sizeof(kSocketName) - 1 > kMaxPathBytes) {
    folder = absl::StrCat(temporary_folder, "/normlab-", geteuid(), "-",
                          common::Sha256Hex(data_dir).substr(0, 16));
  }
  NORMLAB_RETURN_IF_ERROR(MakeFolder(folder, 0700));
  NORMLAB_RETURN_IF_ERROR(CheckPrivate(folder));
  const std::string path = folder + kSocketName;
  // Left behind by a server that was killed; the lock says that no other one uses it.
  unlink(path.c_str());
  return path;
}

}  // namespace normlab::server
