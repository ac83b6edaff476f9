#include "server/store/queue_rows.h"

#include <algorithm>
#include <tuple>

#include "normlab/v1/job.pb.h"

namespace normlab::server {
namespace {

// A parameter in its place would not let SQLite use the index of only these.
static_assert(v1::Job::QUEUED == 1, "the queue's index and its queries say 1");
static_assert(v1::Job::PAUSED == 8, "the index of paused jobs and its query say 8");

}  // namespace

std::vector<QueueEntry> ReadQueue(Connection& connection) {
  std::vector<QueueEntry> entries;
  Query query(connection,
              "SELECT id, owner, create_time_us, priority, cores, memory_bytes, queue_time_us, "
              "waited_us, last_failure_us, spec_bytes FROM jobs INDEXED BY jobs_in_queue "
              "WHERE state = 1");
  while (query.Step()) {
    QueueEntry& entry = entries.emplace_back();
    entry.id = query.Text(0);
    entry.owner = query.Text(1);
    entry.create_time = absl::FromUnixMicros(query.Int(2));
    entry.priority = static_cast<int32_t>(query.Int(3));
    entry.cores = static_cast<int>(std::max<int64_t>(query.Int(4), 1));
    entry.memory_bytes = query.Int(5);
    entry.queue_time = absl::FromUnixMicros(query.Int(6));
    entry.waited = absl::Microseconds(query.Int(7));
    if (query.Int(8) != 0) {
      entry.last_failure = absl::FromUnixMicros(query.Int(8));
    }
    entry.bytes = query.Int(9);
  }
  std::sort(entries.begin(), entries.end(), [](const QueueEntry& a, const QueueEntry& b) {
    return std::tie(a.create_time, a.id) < std::tie(b.create_time, b.id);
  });
  return entries;
}

int64_t ReadQueuedBytes(Connection& connection, const std::string& owner) {
  Query query(connection,
              "SELECT (SELECT total(spec_bytes) FROM jobs INDEXED BY jobs_in_queue "
              "        WHERE state = 1 AND owner = ?1) + "
              "       (SELECT total(spec_bytes) FROM jobs INDEXED BY jobs_paused "
              "        WHERE state = 8 AND owner = ?1)",
              owner);
  return query.Step() ? query.Int(0) : 0;
}

}  // namespace normlab::server
