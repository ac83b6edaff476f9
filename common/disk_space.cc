#include "common/disk_space.h"

#include <sys/statvfs.h>

#include <cerrno>
#include <cstring>

namespace normlab::common {

absl::StatusOr<DiskSpace> LookAtDisk(const std::string& path) {
  struct statvfs disk = {};
  if (statvfs(path.c_str(), &disk) != 0) {
    return absl::UnavailableError(std::strerror(errno));
  }
  const auto block = static_cast<int64_t>(disk.f_frsize);
  return DiskSpace{.size_bytes = static_cast<int64_t>(disk.f_blocks) * block,
                   .free_bytes = static_cast<int64_t>(disk.f_bavail) * block,
                   .read_only = (disk.f_flag & ST_RDONLY) != 0};
}

}  // namespace normlab::common
