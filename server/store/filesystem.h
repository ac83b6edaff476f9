#pragma once

#include <string>

#include "absl/status/status.h"

namespace normlab::server {

// FAILED_PRECONDITION when `folder` is on a network file system, where SQLite's locks and shared
// memory cannot be trusted; UNAVAILABLE when it cannot be looked at.
absl::Status CheckLocalFilesystem(const std::string& folder);

// The name of a network file system by the kernel's magic number (statfs) and, for FUSE, by the
// type in the mount table such as "fuse.sshfs"; empty for a local one.
std::string NetworkFilesystemName(unsigned long magic, const std::string& mount_type);

}  // namespace normlab::server
