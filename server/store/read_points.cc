#include "server/store/read_points.h"

#include <algorithm>

#include "absl/container/flat_hash_map.h"

#include "common/status_macros.h"
#include "server/store/job_rows.h"

namespace normlab::server {
namespace {

// The runs of a slice while it grows.
class Runs {
 public:
  Runs(const std::vector<uint32_t>& series, PointSlice& slice) : slice_(slice) {
    for (const uint32_t id : series) {
      runs_[id] = kWanted;
    }
    all_ = series.empty();
  }

  // Null: the series was not asked for. Valid until the next call.
  PointSlice::Run* Of(uint32_t series) {
    auto it = runs_.find(series);
    if (it == runs_.end()) {
      if (!all_) {
        return nullptr;
      }
      it = runs_.try_emplace(series, kWanted).first;
    }
    if (it->second == kWanted) {
      it->second = static_cast<int>(slice_.runs.size());
      slice_.runs.emplace_back().series = series;
    }
    return &slice_.runs[it->second];
  }

 private:
  static constexpr int kWanted = -1;
  PointSlice& slice_;
  bool all_ = false;
  absl::flat_hash_map<uint32_t, int> runs_;  // index in slice_.runs
};

void AddBlock(const v1::MetricBlock& block,
              int64_t first_sequence,
              const SequenceRange& sequences,
              const StepSpan& steps,
              Runs& runs) {
  // Rows in the ranges: sequences are consecutive, and steps ascend.
  const int64_t begin_row = std::max<int64_t>(0, sequences.after + 1 - first_sequence);
  const int64_t end_row =
      std::min<int64_t>(block.steps_size(), sequences.until + 1 - first_sequence);
  if (begin_row >= end_row) {
    return;
  }
  const auto* const all = block.steps().data();
  const auto* const begin = std::lower_bound(all + begin_row, all + end_row, steps.from);
  const auto* const end = std::upper_bound(begin, all + end_row, steps.to);
  if (begin == end) {
    return;
  }
  const int columns = block.series_size();
  for (int column = 0; column < columns; ++column) {
    PointSlice::Run* const run = runs.Of(block.series(column));
    if (run == nullptr) {
      continue;
    }
    run->steps.insert(run->steps.end(), begin, end);
    const double* value = block.values().data() + (begin - all) * columns + column;
    for (const auto* step = begin; step != end; ++step, value += columns) {
      run->values.push_back(*value);
    }
  }
}

}  // namespace

absl::StatusOr<PointSlice> ReadPointSlice(Connection& connection,
                                          int64_t job_key,
                                          const SequenceRange& sequences,
                                          const std::vector<uint32_t>& series,
                                          const StepSpan& steps,
                                          int64_t max_bytes) {
  PointSlice slice;
  slice.end = std::max(sequences.after, sequences.until);
  Runs runs(series, slice);
  Query query(connection,
              "SELECT payload, last_sequence FROM records INDEXED BY records_by_sequence "
              "WHERE job_key = ? AND last_sequence > ? AND last_step >= ? AND first_step <= ? "
              "ORDER BY last_sequence",
              job_key, sequences.after, steps.from, steps.to);
  int64_t bytes = 0;
  while (query.Step()) {
    v1::RecordBatch batch;
    NORMLAB_RETURN_IF_ERROR(ParseRow(connection, query.Bytes(0), batch));
    if (batch.first_sequence() > sequences.until) {
      break;
    }
    bytes += static_cast<int64_t>(query.Bytes(0).size());
    int64_t sequence = batch.first_sequence();
    for (const v1::Segment& segment : batch.segments()) {
      if (segment.has_metrics()) {
        AddBlock(segment.metrics(), sequence, sequences, steps, runs);
        sequence += segment.metrics().steps_size();
      } else {
        ++sequence;
      }
    }
    if (bytes >= max_bytes) {
      slice.end = std::min(query.Int(1), sequences.until);
      break;
    }
  }
  std::sort(slice.runs.begin(), slice.runs.end(),
            [](const PointSlice::Run& a, const PointSlice::Run& b) { return a.series < b.series; });
  return slice;
}

}  // namespace normlab::server
