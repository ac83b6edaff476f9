#include "server/store/segments.h"

#include <algorithm>
#include <numeric>

namespace normlab::server {
namespace {

// About what a row takes: its values, a step and a time as varints.
constexpr int64_t kRowOverheadBytes = 8;
constexpr int64_t kSegmentOverheadBytes = 16;

std::vector<int> AllColumns(const v1::MetricBlock& block) {
  std::vector<int> columns(block.series_size());
  std::iota(columns.begin(), columns.end(), 0);
  return columns;
}

int64_t RowBytes(const v1::MetricBlock& block) {
  return kRowOverheadBytes + int64_t{8} * block.series_size();
}

bool SameSeries(const v1::MetricBlock& a, const v1::MetricBlock& b) {
  return std::equal(a.series().begin(), a.series().end(), b.series().begin(), b.series().end());
}

}  // namespace

int64_t RecordCount(const v1::Segment& segment) {
  return segment.has_metrics() ? segment.metrics().steps_size() : 1;
}

int64_t RecordCount(const v1::RecordBatch& batch) {
  int64_t count = 0;
  for (const v1::Segment& segment : batch.segments()) {
    count += RecordCount(segment);
  }
  return count;
}

v1::MetricBlock Slice(const v1::MetricBlock& block,
                      int begin,
                      int end,
                      absl::Span<const int> columns) {
  v1::MetricBlock slice;
  slice.mutable_series()->Reserve(static_cast<int>(columns.size()));
  for (const int column : columns) {
    slice.add_series(block.series(column));
  }
  slice.mutable_steps()->Add(block.steps().begin() + begin, block.steps().begin() + end);
  if (block.elapsed_us_size() == block.steps_size()) {
    slice.mutable_elapsed_us()->Add(block.elapsed_us().begin() + begin,
                                    block.elapsed_us().begin() + end);
  }
  const int width = block.series_size();
  slice.mutable_values()->Reserve((end - begin) * static_cast<int>(columns.size()));
  for (int row = begin; row < end; ++row) {
    for (const int column : columns) {
      slice.add_values(block.values(row * width + column));
    }
  }
  return slice;
}

void TrimFront(v1::RecordBatch& batch, int64_t count) {
  batch.set_first_sequence(batch.first_sequence() + count);
  int whole = 0;
  while (whole < batch.segments_size() && count >= RecordCount(batch.segments(whole))) {
    count -= RecordCount(batch.segments(whole));
    ++whole;
  }
  batch.mutable_segments()->DeleteSubrange(0, whole);
  if (count > 0 && batch.segments_size() > 0) {
    v1::MetricBlock& block = *batch.mutable_segments(0)->mutable_metrics();
    block = Slice(block, static_cast<int>(count), block.steps_size(), AllColumns(block));
  }
}

void KeepFront(v1::RecordBatch& batch, int64_t count) {
  int whole = 0;
  while (whole < batch.segments_size() && count >= RecordCount(batch.segments(whole))) {
    count -= RecordCount(batch.segments(whole));
    ++whole;
  }
  if (count > 0) {
    v1::MetricBlock& block = *batch.mutable_segments(whole)->mutable_metrics();
    block = Slice(block, 0, static_cast<int>(count), AllColumns(block));
    ++whole;
  }
  batch.mutable_segments()->DeleteSubrange(whole, batch.segments_size() - whole);
}

void AppendSegment(v1::RecordBatch& batch, v1::Segment segment) {
  if (segment.has_metrics() && batch.segments_size() > 0) {
    v1::Segment& last = *batch.mutable_segments()->rbegin();
    const v1::MetricBlock& more = segment.metrics();
    if (last.has_metrics() && SameSeries(last.metrics(), more) &&
        (last.metrics().elapsed_us_size() == last.metrics().steps_size()) ==
            (more.elapsed_us_size() == more.steps_size())) {
      last.mutable_metrics()->mutable_steps()->MergeFrom(more.steps());
      last.mutable_metrics()->mutable_values()->MergeFrom(more.values());
      last.mutable_metrics()->mutable_elapsed_us()->MergeFrom(more.elapsed_us());
      return;
    }
  }
  *batch.add_segments() = std::move(segment);
}

std::vector<v1::RecordBatch> Pack(std::vector<v1::Segment> segments,
                                  int64_t first_sequence,
                                  int64_t max_bytes) {
  std::vector<v1::RecordBatch> batches;
  v1::RecordBatch batch;
  batch.set_first_sequence(first_sequence);
  int64_t bytes = 0;
  int64_t records = 0;
  const auto flush = [&] {
    if (records == 0) {
      return;
    }
    const int64_t next = batch.first_sequence() + records;
    batches.push_back(std::move(batch));
    batch = v1::RecordBatch();
    batch.set_first_sequence(next);
    bytes = 0;
    records = 0;
  };
  for (v1::Segment& segment : segments) {
    if (!segment.has_metrics()) {
      const int64_t size = static_cast<int64_t>(segment.ByteSizeLong()) + kSegmentOverheadBytes;
      if (bytes + size > max_bytes) {
        flush();
      }
      bytes += size;
      ++records;
      AppendSegment(batch, std::move(segment));
      continue;
    }
    const int64_t row_bytes = RowBytes(segment.metrics());
    const int64_t head_bytes = kSegmentOverheadBytes + 2 * segment.metrics().series_size();
    const int rows = segment.metrics().steps_size();
    const std::vector<int> columns = AllColumns(segment.metrics());
    for (int begin = 0; begin < rows;) {
      const int64_t room = (max_bytes - bytes - head_bytes) / row_bytes;
      if (room < 1 && records > 0) {
        flush();
        continue;
      }
      const int take = static_cast<int>(std::clamp<int64_t>(room, 1, rows - begin));
      bytes += head_bytes + take * row_bytes;
      records += take;
      if (take == rows) {
        AppendSegment(batch, std::move(segment));
        break;
      }
      v1::Segment part;
      *part.mutable_metrics() = Slice(segment.metrics(), begin, begin + take, columns);
      AppendSegment(batch, std::move(part));
      begin += take;
    }
  }
  flush();
  return batches;
}

StepRange StepsOf(const v1::RecordBatch& batch) {
  StepRange range;
  for (const v1::Segment& segment : batch.segments()) {
    for (const int64_t step : segment.metrics().steps()) {
      range.first = range.empty ? step : std::min(range.first, step);
      range.last = range.empty ? step : std::max(range.last, step);
      range.empty = false;
    }
  }
  return range;
}

}  // namespace normlab::server
