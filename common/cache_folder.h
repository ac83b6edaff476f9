#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"

// The folder of decoded data sets: what the processes that decode them and the server, whose disk they
// fill, both keep to. All of this is best effort, blocks for disk and is thread-safe.
namespace normlab::common {

// What decoded data sets are called in the cache folder.
inline constexpr char kCacheSuffix[] = ".nldata";

// Notes in the file's modification time that it was handed out just now.
void MarkCacheFileUsed(const std::string& path);

struct CacheLimits {
  size_t keep = 0;             // sets that stay however long ago they were used
  int64_t bytes = 0;           // that they may take together, those within the least grace aside
  absl::Duration grace;        // how long any of them stays while there is room
  absl::Duration least_grace;  // and when there is none
};

// How many decoded sets stay however long ago they were used, and how long any of them stays: shorter
// where they take more than the bytes together, for a worker maps its set within moments.
inline constexpr CacheLimits kCacheLimits = {
    .keep = 8, .bytes = int64_t{8} << 30, .grace = absl::Hours(1), .least_grace = absl::Minutes(5)};
// For when the disk has no room: only what may be needed within moments.
inline constexpr CacheLimits kLeastCache = {.keep = 0,
                                            .bytes = 0,
                                            .grace = kCacheLimits.least_grace,
                                            .least_grace = kCacheLimits.least_grace};

// Keeps the folder of decoded data sets from growing for ever: every change of the source files (a
// new date is enough, or another device number after a restart) makes one more. Removes the files
// used longest ago, all but the last ones that the limits keep beside `more_bytes` that are to come, and
// what interrupted writes left; nothing that was used or written within the grace, in which a worker may
// still be about to map it (a mapped file can be removed safely). Leaves other files alone.
void PruneCacheFolder(const std::string& folder, const CacheLimits& limits, int64_t more_bytes = 0);

// What the decoded sets in the folder take.
int64_t CacheBytes(const std::string& folder);

// What everybody may still write to the disk of the folder; 0 when that cannot be told.
int64_t FreeBytes(const std::string& folder);

// Removes old sets for one more of that size, on a disk with so much free: whoever decodes many large
// ones must not take the room of checkpoints. RESOURCE_EXHAUSTED, with the numbers: together with those
// used within the least grace it would take more than half of what the disk has for them and all else.
absl::Status MakeRoomInCache(const std::string& folder, int64_t bytes, int64_t free_bytes);

}  // namespace normlab::common
