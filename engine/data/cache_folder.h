#pragma once

#include <string>

#include "absl/time/time.h"

namespace normlab::engine {

// What decoded data sets are called in the cache folder.
inline constexpr char kCacheSuffix[] = ".nldata";

// Notes in the file's modification time that it was handed out just now. Best effort. Thread-safe.
void MarkCacheFileUsed(const std::string& path);

// Keeps the folder of decoded data sets from growing for ever: every change of the source files (a
// new date is enough, or another device number after a restart) makes one more. Removes the files
// used longest ago, all but the `keep` last ones, and what interrupted writes left; nothing that
// was used or written within `grace`, in which a worker may still be about to map it (a mapped file
// can be removed safely). Best effort; leaves other files alone. Thread-safe.
void PruneCacheFolder(const std::string& folder, size_t keep, absl::Duration grace);

}  // namespace normlab::engine
