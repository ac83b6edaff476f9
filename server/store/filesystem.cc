#include "server/store/filesystem.h"

#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "server/domain/errors.h"

namespace normlab::server {
namespace {

constexpr unsigned long kFuseMagic = 0x65735546;

// From linux/magic.h and the file systems' own sources.
constexpr std::pair<unsigned long, const char*> kNetworkMagics[] = {
    {0x6969, "NFS"},       {0x517B, "SMB"},        {0xFF534D42, "CIFS"},  {0xFE534D42, "SMB2"},
    {0x00C36400, "Ceph"},  {0x5346414F, "AFS"},    {0x6B414653, "AFS"},   {0x73757245, "Coda"},
    {0x564C, "NCP"},       {0x0BD00BD0, "Lustre"}, {0x47504653, "GPFS"},  {0x19830326, "BeeGFS"},
    {0x7461636F, "OCFS2"}, {0x01161970, "GFS2"},   {0x20030528, "PVFS2"}, {0xAAD7AAEA, "PanFS"},
};

// FUSE file systems that keep the files on another machine.
constexpr const char* kNetworkFuseTypes[] = {
    "fuse.sshfs",   "fuse.glusterfs", "fuse.ceph",      "fuse.rclone", "fuse.s3fs",
    "fuse.gcsfuse", "fuse.juicefs",   "fuse.seaweedfs", "fuse.davfs",  "fuse.curlftpfs"};

// Type of the mounted file system with this device number, from /proc/self/mountinfo; empty when
// not found.
std::string MountType(dev_t device) {
  const std::string wanted = absl::StrCat(major(device), ":", minor(device));
  std::ifstream mounts("/proc/self/mountinfo");
  std::string line;
  while (std::getline(mounts, line)) {
    const std::vector<std::string> fields = absl::StrSplit(line, ' ');
    if (fields.size() < 3 || fields[2] != wanted) {
      continue;
    }
    for (size_t i = 3; i + 1 < fields.size(); ++i) {
      if (fields[i] == "-") {
        return fields[i + 1];
      }
    }
  }
  return "";
}

}  // namespace

std::string NetworkFilesystemName(unsigned long magic, const std::string& mount_type) {
  for (const auto& [number, name] : kNetworkMagics) {
    // The kernel hands out 32 bits, sign-extended on some architectures.
    if ((magic & 0xFFFFFFFFul) == number) {
      return name;
    }
  }
  if ((magic & 0xFFFFFFFFul) == kFuseMagic) {
    for (const char* type : kNetworkFuseTypes) {
      if (absl::StartsWith(mount_type, type)) {
        return mount_type;
      }
    }
  }
  return "";
}

absl::Status CheckLocalFilesystem(const std::string& folder) {
  struct statfs info = {};
  struct stat entry = {};
  if (statfs(folder.c_str(), &info) != 0 || stat(folder.c_str(), &entry) != 0) {
    return StorageUnavailable(absl::StrCat(folder, ": ", std::strerror(errno)));
  }
  const std::string name =
      NetworkFilesystemName(static_cast<unsigned long>(info.f_type), MountType(entry.st_dev));
  return name.empty() ? absl::OkStatus() : NetworkFilesystem(folder, name);
}

}  // namespace normlab::server
