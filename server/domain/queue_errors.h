#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace normlab::server {

// What is asked of a queue that has no room for it.
struct QueueRoom {
  int64_t taken = 0;
  int64_t wanted = 0;
  int64_t limit = 0;
};

// RESOURCE_EXHAUSTED with RetryInfo: as many jobs wait as may.
absl::Status QueueFull(const QueueRoom& room, absl::Duration retry_after);
// The same for the waiting and paused jobs of one owner. INVALID_ARGUMENT without RetryInfo: there
// would not be room in an empty queue either.
absl::Status OwnerQueueFull(absl::string_view owner,
                            const QueueRoom& room,
                            absl::Duration retry_after);
// The same for the bytes of their specs.
absl::Status OwnerQueueTooLarge(absl::string_view owner,
                                const QueueRoom& room,
                                absl::Duration retry_after);

}  // namespace normlab::server
