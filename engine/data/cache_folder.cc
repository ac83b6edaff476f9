#include "engine/data/cache_folder.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "common/clock.h"

namespace normlab::engine {

void MarkCacheFileUsed(const std::string& path) {
  utimensat(AT_FDCWD, path.c_str(), nullptr, 0);
}

void PruneCacheFolder(const std::string& folder, const CacheLimits& limits) {
  struct Set {
    absl::Time used;
    std::string path;
    int64_t bytes;
  };
  const absl::Time now = common::Clock::Real().Now();
  const absl::Time oldest_needed = now - limits.grace;
  std::vector<Set> sets;
  std::vector<std::string> unwanted;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string path = entry->path().string();
    struct stat info {};
    if (lstat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) {
      continue;
    }
    const absl::Time used = absl::TimeFromTimespec(info.st_mtim);
    if (absl::EndsWith(path, kCacheSuffix)) {
      sets.push_back({used, path, info.st_size});
    } else if (absl::EndsWith(path, ".tmp") &&
               absl::StrContains(path, absl::StrCat(kCacheSuffix, ".")) && used < oldest_needed) {
      unwanted.push_back(path);
    }
  }
  // The last used first.
  std::sort(sets.begin(), sets.end(), [](const Set& a, const Set& b) {
    return std::tie(b.used, b.path) < std::tie(a.used, a.path);
  });
  int64_t bytes = 0;
  for (size_t i = 0; i < sets.size(); ++i) {
    bytes += sets[i].bytes;
    const bool too_many = i >= limits.keep && sets[i].used < oldest_needed;
    const bool too_large = bytes > limits.bytes && sets[i].used < now - limits.least_grace;
    if (too_many || too_large) {
      unwanted.push_back(sets[i].path);
      bytes -= sets[i].bytes;
    }
  }
  for (const std::string& path : unwanted) {
    std::filesystem::remove(path, error);
  }
}

}  // namespace normlab::engine
