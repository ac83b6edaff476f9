#include "server/store/replay.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <optional>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "common/status_macros.h"

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

}  // namespace normlab::server
