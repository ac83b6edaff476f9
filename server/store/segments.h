#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/types/span.h"

#include "normlab/v1/records.pb.h"

// Arithmetic on records: pure functions, thread-safe. A MetricBlock is as many records as it has
// steps, a state change or a log line is one.
namespace normlab::server {

int64_t RecordCount(const v1::Segment& segment);
int64_t RecordCount(const v1::RecordBatch& batch);

// Rows [begin, end) of a block, with the columns `columns` only (indices into block.series()).
v1::MetricBlock Slice(const v1::MetricBlock& block,
                      int begin,
                      int end,
                      absl::Span<const int> columns);

// Removes the first `count` records and moves first_sequence on; count <= RecordCount(batch).
void TrimFront(v1::RecordBatch& batch, int64_t count);

// Keeps the first `count` records only; 0 < count <= RecordCount(batch).
void KeepFront(v1::RecordBatch& batch, int64_t count);

// Appends a segment, as further rows of the last one when both are blocks of the same series.
void AppendSegment(v1::RecordBatch& batch, v1::Segment segment);

// Packs segments into batches of about `max_bytes` each (more when a single record is larger),
// numbered from `first_sequence` on.
std::vector<v1::RecordBatch> Pack(std::vector<v1::Segment> segments,
                                  int64_t first_sequence,
                                  int64_t max_bytes);

// The least and the greatest step of the points in a batch.
struct StepRange {
  bool empty = true;
  int64_t first = 0;
  int64_t last = 0;
};
StepRange StepsOf(const v1::RecordBatch& batch);

}  // namespace normlab::server
