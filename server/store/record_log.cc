#include "server/store/record_log.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "server/domain/errors.h"
#include "server/store/chunk_summary.h"
#include "server/store/segments.h"

namespace normlab::server {
namespace {

// A batch at least so large is a chunk of its own.
constexpr int64_t kSealBytes = kChunkBytes / 2;

// Takes the open chunks out of the table: their segments in order, and the first one's sequence.
absl::StatusOr<int64_t> TakeOpenChunks(Connection& connection,
                                       LiveJob& live,
                                       std::vector<v1::Segment>& segments) {
  int64_t first_sequence = live.job.last_sequence() + 1;
  int64_t before_sequence = 0;
  {
    Query before(connection,
                 "SELECT last_sequence FROM records WHERE job_key = ? "
                 "ORDER BY last_sequence DESC LIMIT 1 OFFSET ?",
                 live.key, live.open_chunks);
    if (before.Step()) {
      before_sequence = before.Int(0);
    }
  }
  {
    Query query(connection,
                "SELECT payload FROM records WHERE job_key = ? AND last_sequence > ? "
                "ORDER BY last_sequence",
                live.key, before_sequence);
    bool first = true;
    while (query.Step()) {
      v1::RecordBatch batch;
      NORMLAB_RETURN_IF_ERROR(ParseRow(connection, query.Bytes(0), batch));
      if (first) {
        first_sequence = batch.first_sequence();
        first = false;
      }
      for (v1::Segment& segment : *batch.mutable_segments()) {
        segments.push_back(std::move(segment));
      }
    }
  }
  Query(connection, "DELETE FROM records WHERE job_key = ? AND last_sequence > ?", live.key,
        before_sequence)
      .Run();
  live.open_chunks = 0;
  live.open_bytes = 0;
  return first_sequence;
}

int64_t LogCount(const v1::RecordBatch& batch) {
  return std::count_if(batch.segments().begin(), batch.segments().end(),
                       [](const v1::Segment& segment) { return segment.has_log(); });
}

// One row of the table; answers whether the chunk is sealed.
bool InsertRow(Connection& connection,
               int64_t job_key,
               const v1::RecordBatch& batch,
               const std::string& payload,
               bool seal) {
  const bool sealed = seal || static_cast<int64_t>(payload.size()) >= kSealBytes;
  const StepRange steps = StepsOf(batch);
  const auto first_step = steps.empty ? std::optional<int64_t>() : steps.first;
  const auto last_step = steps.empty ? std::optional<int64_t>() : steps.last;
  const int64_t last_sequence = batch.first_sequence() + RecordCount(batch) - 1;
  Query(
      connection,
      "INSERT INTO records(job_key, last_sequence, first_sequence, first_step, last_step, sealed, "
      "payload, logs) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
      job_key, last_sequence, batch.first_sequence(), first_step, last_step, sealed, Blob{payload},
      LogCount(batch))
      .Run();
  if (sealed) {
    const std::vector<SeriesSummary> summaries = Summarize(batch);
    const std::string summary = summaries.empty() ? "" : EncodeSummaries(summaries);
    Query(connection,
          "INSERT INTO chunk_summaries(job_key, last_sequence, first_sequence, first_step, "
          "last_step, summary) VALUES (?, ?, ?, ?, ?, ?)",
          job_key, last_sequence, batch.first_sequence(), first_step, last_step,
          summaries.empty() ? std::optional<Blob>() : Blob{summary})
        .Run();
  }
  return sealed;
}

void InsertChunk(Connection& connection, LiveJob& live, const v1::RecordBatch& batch, bool seal) {
  const std::string payload = batch.SerializeAsString();
  const bool sealed = InsertRow(connection, live.key, batch, payload, seal);
  live.open_chunks = sealed ? 0 : live.open_chunks + 1;
  live.open_bytes = sealed ? 0 : live.open_bytes + static_cast<int64_t>(payload.size());
}

}  // namespace

void InsertFirstRecords(Connection& connection,
                        int64_t job_key,
                        const v1::RecordBatch& batch,
                        const std::string& payload) {
  InsertRow(connection, job_key, batch, payload, /*seal=*/false);
}

absl::Status AppendRecords(Connection& connection,
                           LiveJob& live,
                           std::vector<v1::Segment> records,
                           bool seal) {
  int64_t new_bytes = 0;
  int64_t new_records = 0;
  for (const v1::Segment& record : records) {
    new_bytes += static_cast<int64_t>(record.ByteSizeLong());
    new_records += RecordCount(record);
  }
  int64_t first_sequence = live.job.last_sequence() + 1;
  const int64_t last_sequence = live.job.last_sequence() + new_records;
  if (live.open_chunks > 0 &&
      (seal || live.open_chunks >= kMaxOpenChunks || live.open_bytes + new_bytes >= kChunkBytes)) {
    std::vector<v1::Segment> segments;
    NORMLAB_ASSIGN_OR_RETURN(first_sequence, TakeOpenChunks(connection, live, segments));
    segments.insert(segments.end(), std::make_move_iterator(records.begin()),
                    std::make_move_iterator(records.end()));
    records = std::move(segments);
  }
  int64_t next_sequence = first_sequence;
  for (const v1::RecordBatch& batch : Pack(std::move(records), first_sequence, kChunkBytes)) {
    InsertChunk(connection, live, batch, seal);
    next_sequence += RecordCount(batch);
  }
  if (next_sequence != last_sequence + 1) {
    return InternalError(absl::StrCat("records of ", live.job.name(), " were renumbered: ",
                                      next_sequence - 1, " instead of ", last_sequence));
  }
  live.job.set_last_sequence(last_sequence);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<v1::RecordBatch>> ReadBatches(Connection& connection,
                                                         int64_t job_key,
                                                         int64_t after_sequence,
                                                         int64_t max_bytes) {
  std::vector<v1::RecordBatch> batches;
  Query query(connection,
              "SELECT payload FROM records INDEXED BY records_by_sequence "
              "WHERE job_key = ? AND last_sequence > ? ORDER BY last_sequence",
              job_key, after_sequence);
  int64_t bytes = 0;
  while ((batches.empty() || bytes < max_bytes) && query.Step()) {
    const absl::string_view payload = query.Bytes(0);
    bytes += static_cast<int64_t>(payload.size());
    if (!batches.empty() && bytes > max_bytes) {
      break;
    }
    v1::RecordBatch& batch = batches.emplace_back();
    NORMLAB_RETURN_IF_ERROR(ParseRow(connection, payload, batch));
    if (batch.first_sequence() <= after_sequence) {
      TrimFront(batch, after_sequence + 1 - batch.first_sequence());
    }
  }
  return batches;
}

absl::StatusOr<std::vector<LogEntry>> ReadLogChunks(Connection& connection,
                                                    int64_t job_key,
                                                    int64_t after_sequence,
                                                    int64_t max_bytes,
                                                    int64_t& scanned) {
  std::vector<LogEntry> entries;
  Query query(connection,
              "SELECT payload, last_sequence FROM records INDEXED BY records_with_logs "
              "WHERE job_key = ? AND logs > 0 AND last_sequence > ? ORDER BY last_sequence",
              job_key, after_sequence);
  int64_t bytes = 0;
  while (query.Step()) {
    const absl::string_view payload = query.Bytes(0);
    bytes += static_cast<int64_t>(payload.size());
    v1::RecordBatch batch;
    NORMLAB_RETURN_IF_ERROR(ParseRow(connection, payload, batch));
    int64_t sequence = batch.first_sequence();
    for (v1::Segment& segment : *batch.mutable_segments()) {
      if (segment.has_log() && sequence > after_sequence) {
        entries.push_back({sequence, std::move(*segment.mutable_log())});
      }
      sequence += RecordCount(segment);
    }
    if (bytes >= max_bytes) {
      scanned = query.Int(1);
      break;
    }
  }
  return entries;
}

}  // namespace normlab::server
