#include "server/store/replay.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <optional>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "common/status_macros.h"
#include "server/store/chunk_summary.h"

namespace normlab::server {
namespace {

bool Before(const RepeatedPoint& a, const RepeatedPoint& b) {
  return std::tie(a.series, a.step) < std::tie(b.series, b.step);
}

}  // namespace

absl::StatusOr<ReplayDifference> CompareReplay(Connection& connection,
                                               int64_t job_key,
                                               const std::vector<SeriesTail>& series,
                                               std::vector<RepeatedPoint> repeated) {
  ReplayDifference difference;
  if (repeated.empty()) {
    return difference;
  }
  std::stable_sort(repeated.begin(), repeated.end(), Before);
  std::vector<std::optional<double>> stored(repeated.size());
  absl::flat_hash_set<uint32_t> wanted;
  int64_t first_step = std::numeric_limits<int64_t>::max();
  int64_t last_step = std::numeric_limits<int64_t>::min();
  for (const RepeatedPoint& point : repeated) {
    wanted.insert(point.series);
    first_step = std::min(first_step, point.step);
    last_step = std::max(last_step, point.step);
  }
  Query query(connection,
              "SELECT payload FROM records INDEXED BY records_by_step "
              "WHERE job_key = ? AND last_step >= ? AND first_step <= ?",
              job_key, first_step, last_step);
  while (query.Step()) {
    v1::RecordBatch batch;
    NORMLAB_RETURN_IF_ERROR(ParseRow(connection, query.Bytes(0), batch));
    for (const v1::Segment& segment : batch.segments()) {
      const v1::MetricBlock& block = segment.metrics();
      const int columns = block.series_size();
      for (int column = 0; column < columns; ++column) {
        if (!wanted.contains(block.series(column))) {
          continue;
        }
        for (int row = 0; row < block.steps_size(); ++row) {
          const RepeatedPoint key = {block.series(column), block.steps(row), 0};
          auto it = std::lower_bound(repeated.begin(), repeated.end(), key, Before);
          for (; it != repeated.end() && !Before(key, *it); ++it) {
            stored[it - repeated.begin()] = block.values(row * columns + column);
          }
        }
      }
    }
  }
  size_t first = repeated.size();
  for (size_t i = 0; i < repeated.size(); ++i) {
    // NaN equals NaN when their bits do.
    if (stored[i].has_value() &&
        std::bit_cast<uint64_t>(*stored[i]) == std::bit_cast<uint64_t>(repeated[i].value)) {
      continue;
    }
    ++difference.mismatches;
    if (first == repeated.size() || repeated[i].step < repeated[first].step) {
      first = i;
    }
  }
  if (first < repeated.size()) {
    const RepeatedPoint& point = repeated[first];
    difference.first = absl::StrCat(
        series[point.series - 1].series.name(), " at step ", point.step, ": stored ",
        stored[first].has_value() ? absl::StrFormat("%.17g", *stored[first]) : "nothing", ", now ",
        absl::StrFormat("%.17g", point.value));
  }
  return difference;
}

absl::StatusOr<int64_t> CountLeftOut(Connection& connection,
                                     int64_t job_key,
                                     int64_t start_step,
                                     const std::vector<CaughtUpSeries>& caught_up) {
  if (caught_up.empty()) {
    return 0;
  }
  // Stored points by series, up to where each one ended.
  absl::flat_hash_map<uint32_t, std::pair<int64_t, int64_t>> stored;
  int64_t last_step = start_step;
  for (const CaughtUpSeries& series : caught_up) {
    stored[series.series] = {series.stored_until, 0};
    last_step = std::max(last_step, series.stored_until);
  }
  const auto count = [&](uint32_t series, int64_t step, int64_t points) {
    const auto it = stored.find(series);
    if (it != stored.end() && step <= it->second.first) {
      it->second.second += points;
    }
  };
  Query query(connection,
              "SELECT records.last_sequence, records.first_step, records.last_step, summary "
              "FROM records INDEXED BY records_by_step LEFT JOIN chunk_summaries ON "
              "chunk_summaries.job_key = records.job_key AND "
              "chunk_summaries.last_sequence = records.last_sequence "
              "WHERE records.job_key = ? AND records.last_step >= ? AND records.first_step <= ?",
              job_key, start_step, last_step);
  std::vector<SeriesSummary> summaries;
  while (query.Step()) {
    const bool inside = query.Int(1) >= start_step && query.Int(2) <= last_step;
    if (inside && !query.IsNull(3) && DecodeSummaries(query.Bytes(3), summaries)) {
      for (const SeriesSummary& summary : summaries) {
        count(summary.series, summary.last.step, summary.count);
      }
      continue;
    }
    Query chunk(connection,
                "SELECT payload FROM records INDEXED BY records_by_sequence "
                "WHERE job_key = ? AND last_sequence = ?",
                job_key, query.Int(0));
    v1::RecordBatch batch;
    if (chunk.Step()) {
      NORMLAB_RETURN_IF_ERROR(ParseRow(connection, chunk.Bytes(0), batch));
    }
    for (const v1::Segment& segment : batch.segments()) {
      for (const int64_t step : segment.metrics().steps()) {
        for (const uint32_t series : segment.metrics().series()) {
          count(series, step, step >= start_step ? 1 : 0);
        }
      }
    }
  }
  int64_t left_out = 0;
  for (const CaughtUpSeries& series : caught_up) {
    left_out += std::max<int64_t>(0, stored[series.series].second - series.repeated);
  }
  return left_out;
}

}  // namespace normlab::server
