#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/time/time.h"

namespace normlab::engine {

// What decoded data sets are called in the cache folder.
inline constexpr char kCacheSuffix[] = ".nldata";

// Notes in the file's modification time that it was handed out just now. Best effort. Thread-safe.
void MarkCacheFileUsed(const std::string& path);

struct CacheLimits {
  size_t keep = 0;             // sets that stay however long ago they were used
  int64_t bytes = 0;           // that they may take together, those within the least grace aside
  absl::Duration grace;        // how long any of them stays while there is room
  absl::Duration least_grace;  // and when there is none
};

// Keeps the folder of decoded data sets from growing for ever: every change of the source files (a
// new date is enough, or another device number after a restart) makes one more. Removes the files
// used longest ago, all but the last ones that the limits keep, and what interrupted writes left;
// nothing that was used or written within the grace, in which a worker may still be about to map it
// (a mapped file can be removed safely). Best effort; leaves other files alone. Thread-safe.
void PruneCacheFolder(const std::string& folder, const CacheLimits& limits);

}  // namespace normlab::engine
