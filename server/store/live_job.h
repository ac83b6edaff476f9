#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"

#include "server/store/connection.h"
#include "server/store/job_rows.h"

namespace normlab::server {

// A series as an attempt's reports name it.
struct AttemptSeries {
  uint32_t series = 0;  // the job's id
  // Stored points that the attempt reported again so far; -1: it has gone beyond what was stored
  // when it began, or nothing was.
  int64_t repeated = -1;
  bool changed = false;  // since it was read or written
};

// What the writer keeps in memory of a job that changes often: always what its transaction would
// read from the database.
struct LiveJob {
  int64_t key = 0;
  std::string id;
  v1::Job job;  // complete

  std::vector<SeriesTail> series;  // index: id - 1
  absl::flat_hash_map<std::string, uint32_t> series_ids;

  // The small chunks at the end that may still be merged.
  int open_chunks = 0;
  int64_t open_bytes = 0;

  // One attempt's own state; number 0: not loaded.
  int32_t attempt = 0;
  AttemptSecrets secrets;
  absl::flat_hash_map<uint32_t, AttemptSeries> attempt_series;  // by its own series ids

  // Makes `attempt`, `secrets` and `attempt_series` those of that attempt. NOT_FOUND.
  absl::Status LoadAttempt(Connection& connection, int32_t number);
};

// The writer's live jobs. An entry must be forgotten when what was written for it is rolled back.
// Not thread-safe.
class LiveJobs {
 public:
  // Valid until the next call of any member. NOT_FOUND; DATA_LOSS. May throw SQLite::Exception.
  absl::StatusOr<LiveJob*> Get(Connection& connection, const std::string& job_id);
  void Forget(const std::string& job_id) { jobs_.erase(job_id); }
  void Clear() { jobs_.clear(); }

 private:
  absl::flat_hash_map<std::string, std::unique_ptr<LiveJob>> jobs_;
};

}  // namespace normlab::server
