#include "engine/data/cache_folder.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "common/clock.h"

namespace normlab::engine {

void MarkCacheFileUsed(const std::string& path) {
  utimensat(AT_FDCWD, path.c_str(), nullptr, 0);
}

void PruneCacheFolder(const std::string& folder, size_t keep, absl::Duration grace) {
  const absl::Time oldest_needed = common::Clock::Real().Now() - grace;
  std::vector<std::pair<absl::Time, std::string>> sets;
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
      sets.emplace_back(used, path);
    } else if (absl::EndsWith(path, ".tmp") &&
               absl::StrContains(path, absl::StrCat(kCacheSuffix, ".")) && used < oldest_needed) {
      unwanted.push_back(path);
    }
  }
  std::sort(sets.rbegin(), sets.rend());  // the last used first
  for (size_t i = keep; i < sets.size(); ++i) {
    if (sets[i].first < oldest_needed) {
      unwanted.push_back(sets[i].second);
    }
  }
  for (const std::string& path : unwanted) {
    std::filesystem::remove(path, error);
  }
}

}  // namespace normlab::engine
