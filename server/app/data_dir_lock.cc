#include "server/app/data_dir_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace normlab::server {
namespace {

// What stands in the file: the holder's process id, if it came so far as to write it.
std::string ReadHolder(int file) {
  std::array<char, 32> text{};
  const ssize_t bytes = pread(file, text.data(), text.size(), 0);
  return std::string(
      absl::StripAsciiWhitespace(absl::string_view(text.data(), bytes > 0 ? bytes : 0)));
}

}  // namespace

absl::StatusOr<DataDirLock> DataDirLock::Acquire(const std::string& data_dir) {
  const std::string path = data_dir + "/LOCK";
  common::UniqueFd file(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!file.valid()) {
    return absl::FailedPreconditionError(absl::StrCat("cannot open ", path, ": ",
                                                      std::strerror(errno),
                                                      "; choose a --data_dir that you may write"));
  }
  if (flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) {
      return absl::FailedPreconditionError(absl::StrCat(
          "cannot lock ", path, ": ", std::strerror(errno), "; put --data_dir on a local disk"));
    }
    const std::string holder = ReadHolder(file.get());
    return absl::FailedPreconditionError(
        absl::StrCat("the data folder ", data_dir, " is in use by another normlabd",
                     holder.empty() ? "" : absl::StrCat(", process ", holder),
                     "; stop that one first, or give this one another --data_dir"));
  }
  const std::string pid = absl::StrCat(getpid(), "\n");
  if (ftruncate(file.get(), 0) != 0 ||
      pwrite(file.get(), pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot write ", path, ": ", std::strerror(errno), "; make room on its disk"));
  }
  return DataDirLock(std::move(file));
}

absl::Status MakeFolder(const std::string& path, int mode) {
  for (size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    const std::string prefix = path.substr(0, end);
    const bool last = end == std::string::npos;
    // Folders above it are not ours to restrict.
    if (mkdir(prefix.c_str(), last ? mode : 0755) != 0 && errno != EEXIST) {
      return absl::FailedPreconditionError(absl::StrCat("cannot make the folder ", prefix, ": ",
                                                        std::strerror(errno),
                                                        "; choose another or make it yourself"));
    }
    if (last) {
      break;
    }
  }
  struct stat info {};
  if (stat(path.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " is not a folder; remove it or choose another"));
  }
  return absl::OkStatus();
}

}  // namespace normlab::server
