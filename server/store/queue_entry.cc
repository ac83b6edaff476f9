#include "server/store/queue_entry.h"

#include <algorithm>

#include "server/domain/proto_time.h"
#include "server/domain/states.h"

namespace normlab::server {

QueueEntry QueueEntryOf(const std::string& job_id, const v1::Job& job) {
  QueueEntry entry;
  entry.id = job_id;
  entry.owner = job.owner();
  entry.priority = job.priority();
  entry.cores = std::max(job.estimate().cores(), 1);
  entry.memory_bytes = job.estimate().memory_bytes();
  entry.create_time = FromTimestamp(job.create_time());
  entry.waited = absl::Seconds(job.waited_seconds());
  const v1::Attempt* last = job.attempts().empty() ? nullptr : &*job.attempts().rbegin();
  if (job.has_queue_time()) {
    entry.queue_time = FromTimestamp(job.queue_time());
  } else {
    // Jobs of older versions have not noted it.
    entry.queue_time = last == nullptr ? entry.create_time : FromTimestamp(last->end_time());
  }
  if (last != nullptr && last->has_failure() && UsesUpRetry(last->failure().reason())) {
    entry.last_failure = FromTimestamp(last->end_time());
  }
  return entry;
}

}  // namespace normlab::server
