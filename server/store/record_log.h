#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "server/store/connection.h"
#include "server/store/live_job.h"
#include "server/store/store.h"

#include "normlab/v1/records.pb.h"

namespace normlab::server {

// Chunks are sealed once they have about so many bytes.
inline constexpr int64_t kChunkBytes = 32 << 10;
// More open chunks than this are merged though they are small.
inline constexpr int kMaxOpenChunks = 64;

// Appends records (series ids are the job's) and moves job.last_sequence on. Merges the small
// chunks at the end when they have become enough for a sealed one, or when `seal` says that nothing
// will follow. Only inside the writer's transaction. May throw SQLite::Exception; DATA_LOSS.
absl::Status AppendRecords(Connection& connection,
                           LiveJob& live,
                           std::vector<v1::Segment> records,
                           bool seal);

// Stores the first records of a new job, without merging anything: `payload` is `batch` serialized,
// which begins with sequence 1. Several jobs may share both.
void InsertFirstRecords(Connection& connection,
                        int64_t job_key,
                        const v1::RecordBatch& batch,
                        const std::string& payload);

// Batches with records in (after_sequence, last_sequence], the first one trimmed, until about
// `max_bytes` are read. May throw SQLite::Exception; DATA_LOSS.
absl::StatusOr<std::vector<v1::RecordBatch>> ReadBatches(Connection& connection,
                                                         int64_t job_key,
                                                         int64_t after_sequence,
                                                         int64_t max_bytes);

// Log lines after `after_sequence`, from chunks of about `max_bytes` together; chunks without any
// are not looked at. Sets `scanned` to the last sequence looked at when there may be more beyond,
// and leaves it alone otherwise. May throw SQLite::Exception; DATA_LOSS.
absl::StatusOr<std::vector<LogEntry>> ReadLogChunks(Connection& connection,
                                                    int64_t job_key,
                                                    int64_t after_sequence,
                                                    int64_t max_bytes,
                                                    int64_t& scanned);

}  // namespace normlab::server
