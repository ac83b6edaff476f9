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
