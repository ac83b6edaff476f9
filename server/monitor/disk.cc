#include "server/monitor/disk.h"

#include <sys/stat.h>
#include <sys/statvfs.h>

namespace normlab::server {
namespace {

int64_t FileBytes(const std::string& path) {
  struct stat info {};
  return stat(path.c_str(), &info) == 0 ? int64_t{info.st_size} : 0;
}

}  // namespace

std::optional<DiskSpace> SampleOwnDisk(const std::string& folder, const std::string& other) {
  struct stat info {};
  struct stat other_info {};
  struct statvfs disk {};
  if (stat(folder.c_str(), &info) != 0 ||
      (stat(other.c_str(), &other_info) == 0 && other_info.st_dev == info.st_dev) ||
      statvfs(folder.c_str(), &disk) != 0) {
    return std::nullopt;
  }
  const auto block = static_cast<int64_t>(disk.f_frsize);
  return DiskSpace{.size_bytes = static_cast<int64_t>(disk.f_blocks) * block,
                   .free_bytes = static_cast<int64_t>(disk.f_bavail) * block};
}

DiskSample SampleDisk(const std::string& data_dir) {
  DiskSample sample;
  struct statvfs disk {};
  if (statvfs(data_dir.c_str(), &disk) == 0) {
    const auto block = static_cast<int64_t>(disk.f_frsize);
    sample.size_bytes = static_cast<int64_t>(disk.f_blocks) * block;
    sample.free_bytes = static_cast<int64_t>(disk.f_bavail) * block;
  }
  sample.database_bytes = FileBytes(data_dir + "/normlab.db");
  sample.log_bytes = FileBytes(data_dir + "/normlab.db-wal");
  return sample;
}

}  // namespace normlab::server
