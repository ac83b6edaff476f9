#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace normlab::server {

// The disk below the data folder, and what the database takes of it. [bytes]
struct DiskSample {
  int64_t size_bytes = 0;
  int64_t free_bytes = 0;  // that we may still write
  int64_t database_bytes = 0;
  int64_t log_bytes = 0;  // of the database's write-ahead log
};

struct DiskSpace {
  int64_t size_bytes = 0;
  int64_t free_bytes = 0;  // that we may still write
};

// Of the disk below `folder`, unless `other` lies on the same one or the folder cannot be looked at. As long as
// that disk takes. Thread-safe.
std::optional<DiskSpace> SampleOwnDisk(const std::string& folder, const std::string& other);

// As of now, of a folder on a local disk; zero where something cannot be looked at. Thread-safe;
// costs some microseconds.
DiskSample SampleDisk(const std::string& data_dir);

}  // namespace normlab::server
