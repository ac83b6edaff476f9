#include "server/stream/cursor.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "server/domain/errors.h"
#include "server/store/segments.h"

namespace normlab::server {

Cursor::Cursor(Store& store, std::string job_id, int64_t after_sequence)
    : store_(store), job_id_(std::move(job_id)), sequence_(after_sequence) {}

absl::StatusOr<std::optional<v1::RecordBatch>> Cursor::Next(int64_t max_bytes) {
  if (finished_) {
    return std::optional<v1::RecordBatch>();
  }
  NORMLAB_ASSIGN_OR_RETURN(RecordPage page, store_.ReadRecords(job_id_, sequence_, max_bytes));
  v1::RecordBatch joined;
  joined.set_first_sequence(sequence_ + 1);
  int64_t last = sequence_;
  for (v1::RecordBatch& batch : page.batches) {
    if (batch.first_sequence() != last + 1) {
      return InternalError(absl::StrCat("records ", last + 1, " to ", batch.first_sequence() - 1,
                                        " of ", job_id_, " are missing"));
    }
    last += RecordCount(batch);
    for (v1::Segment& segment : *batch.mutable_segments()) {
      AppendSegment(joined, std::move(segment));
    }
  }
  const auto bytes = static_cast<int64_t>(joined.ByteSizeLong());
  if (bytes > max_bytes + max_bytes / 2 && last - sequence_ > 1) {
    // A stored chunk may be larger than a message should be. The rest is read again the next time,
    // which costs less than keeping it for every subscriber.
    const int64_t pieces = (bytes + max_bytes - 1) / max_bytes;
    const int64_t kept = std::max<int64_t>(1, (last - sequence_ + pieces - 1) / pieces);
    KeepFront(joined, kept);
    last = sequence_ + kept;
  }
  if (last == sequence_) {
    finished_ = page.terminal && sequence_ == page.last_sequence;
    return std::optional<v1::RecordBatch>();
  }
  NORMLAB_RETURN_IF_ERROR(DefineSeries(joined));
  sequence_ = last;
  finished_ = page.terminal && sequence_ == page.last_sequence;
  return std::optional<v1::RecordBatch>(std::move(joined));
}

absl::Status Cursor::DefineSeries(v1::RecordBatch& batch) {
  std::vector<uint32_t> undefined;
  absl::flat_hash_set<uint32_t> seen;
  bool unknown = false;
  for (const v1::Segment& segment : batch.segments()) {
    for (const uint32_t id : segment.metrics().series()) {
      if (!defined_series_.contains(id) && seen.insert(id).second) {
        undefined.push_back(id);
        unknown = unknown || !series_names_.contains(id);
      }
    }
  }
  if (unknown) {
    // Read after the records, so every series that they use is there.
    NORMLAB_ASSIGN_OR_RETURN(std::vector<v1::Series> all, store_.ReadSeries(job_id_));
    for (v1::Series& series : all) {
      series_names_[series.id()] = std::move(*series.mutable_name());
    }
  }
  for (const uint32_t id : undefined) {
    const auto it = series_names_.find(id);
    if (it == series_names_.end()) {
      return InternalError(absl::StrCat("series ", id, " of ", job_id_, " has no name"));
    }
    v1::Series& series = *batch.add_new_series();
    series.set_id(id);
    series.set_name(it->second);
  }
  defined_series_.insert(undefined.begin(), undefined.end());
  return absl::OkStatus();
}

}  // namespace normlab::server
