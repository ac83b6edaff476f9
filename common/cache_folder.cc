#include "common/cache_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "common/clock.h"

namespace normlab::common {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

struct CacheFile {
  absl::Time used;
  std::string path;
  int64_t bytes;
};

struct CacheFiles {
  std::vector<CacheFile> sets;
  std::vector<CacheFile> unfinished;
};

CacheFiles ListCache(const std::string& folder) {
  CacheFiles files;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string path = entry->path().string();
    struct stat info {};
    if (lstat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) {
      continue;
    }
    const CacheFile file = {absl::TimeFromTimespec(info.st_mtim), path, info.st_size};
    if (absl::EndsWith(path, kCacheSuffix)) {
      files.sets.push_back(file);
    } else if (absl::EndsWith(path, ".tmp") &&
               absl::StrContains(path, absl::StrCat(kCacheSuffix, "."))) {
      files.unfinished.push_back(file);
    }
  }
  return files;
}

}  // namespace

void MarkCacheFileUsed(const std::string& path) {
  utimensat(AT_FDCWD, path.c_str(), nullptr, 0);
}

void PruneCacheFolder(const std::string& folder, const CacheLimits& limits, int64_t more_bytes) {
  const absl::Time now = Clock::Real().Now();
  const absl::Time oldest_needed = now - limits.grace;
  CacheFiles files = ListCache(folder);
  std::vector<std::string> unwanted;
  for (const CacheFile& file : files.unfinished) {
    if (file.used < oldest_needed) {
      unwanted.push_back(file.path);
    }
  }
  // The last used first.
  std::sort(files.sets.begin(), files.sets.end(), [](const CacheFile& a, const CacheFile& b) {
    return std::tie(b.used, b.path) < std::tie(a.used, a.path);
  });
  int64_t bytes = more_bytes;
  for (size_t i = 0; i < files.sets.size(); ++i) {
    const CacheFile& set = files.sets[i];
    bytes += set.bytes;
    const bool too_many = i >= limits.keep && set.used < oldest_needed;
    const bool too_large = bytes > limits.bytes && set.used < now - limits.least_grace;
    if (too_many || too_large) {
      unwanted.push_back(set.path);
      bytes -= set.bytes;
    }
  }
  std::error_code error;
  for (const std::string& path : unwanted) {
    std::filesystem::remove(path, error);
  }
}

int64_t CacheBytes(const std::string& folder) {
  const CacheFiles files = ListCache(folder);
  int64_t bytes = 0;
  for (const std::vector<CacheFile>* kind : {&files.sets, &files.unfinished}) {
    for (const CacheFile& file : *kind) {
      bytes += file.bytes;
    }
  }
  return bytes;
}

int64_t FreeBytes(const std::string& folder) {
  struct statvfs disk = {};
  return statvfs(folder.c_str(), &disk) == 0 ? static_cast<int64_t>(disk.f_bavail * disk.f_frsize)
                                             : 0;
}

absl::Status MakeRoomInCache(const std::string& folder, int64_t bytes, int64_t free_bytes) {
  // Removing a set moves its bytes from the one to the other.
  const int64_t share = (CacheBytes(folder) + free_bytes) / 2;
  CacheLimits limits = kCacheLimits;
  limits.bytes = std::min(limits.bytes, share);
  PruneCacheFolder(folder, limits, bytes);
  const int64_t left = CacheBytes(folder);
  if (left + bytes <= share) {
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(absl::StrCat(
      "it takes ", (bytes + kMiB - 1) / kMiB, " MiB, and decoded data sets may take half of the ",
      2 * share / kMiB, " MiB that the disk of ", folder, " has for them and all else, of which ",
      left / kMiB, " MiB are in use by sets of the last ",
      absl::FormatDuration(kCacheLimits.least_grace)));
}

}  // namespace normlab::common
