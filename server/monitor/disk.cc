#include "server/monitor/disk.h"

#include <sys/stat.h>

namespace normlab::server {
namespace {

int64_t FileBytes(const std::string& path) {
  struct stat info {};
  return stat(path.c_str(), &info) == 0 ? int64_t{info.st_size} : 0;
}

}  // namespace

std::optional<common::DiskSpace> SampleOwnDisk(const std::string& folder,
                                               const std::string& other) {
  struct stat info {};
  struct stat other_info {};
  if (stat(folder.c_str(), &info) != 0 ||
      (stat(other.c_str(), &other_info) == 0 && other_info.st_dev == info.st_dev)) {
    return std::nullopt;
  }
  const absl::StatusOr<common::DiskSpace> disk = common::LookAtDisk(folder);
  return disk.ok() ? std::optional(*disk) : std::nullopt;
}

DiskSample SampleDisk(const std::string& data_dir) {
  DiskSample sample;
  if (const absl::StatusOr<common::DiskSpace> disk = common::LookAtDisk(data_dir); disk.ok()) {
    sample.size_bytes = disk->size_bytes;
    sample.free_bytes = disk->free_bytes;
  }
  sample.database_bytes = FileBytes(data_dir + "/normlab.db");
  sample.log_bytes = FileBytes(data_dir + "/normlab.db-wal");
  return sample;
}

}  // namespace normlab::server
