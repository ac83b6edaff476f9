#include "server/store/report.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/names.h"
#include "server/domain/proto_time.h"
#include "server/store/segments.h"

namespace normlab::server {
namespace {

constexpr size_t kMaxLogBytes = 16 << 10;

absl::Status DefineSeries(const v1::Series& series, LiveJob& live) {
  const auto [it, is_new] =
      live.series_ids.try_emplace(series.name(), static_cast<uint32_t>(live.series.size() + 1));
  if (is_new) {
    if (live.series.size() >= kMaxSeriesPerJob) {
      return InvalidReport(absl::StrCat("more than ", kMaxSeriesPerJob, " series"));
    }
    SeriesTail& tail = live.series.emplace_back();
    tail.series.set_id(it->second);
    tail.series.set_name(series.name());
    tail.changed = true;
  }
  const auto [known, first_time] = live.attempt_series.try_emplace(series.id());
  if (!first_time && known->second.series != it->second) {
    return InvalidReport(absl::StrCat("series id ", series.id(), " is given to another name, ",
                                      QuotedForMessage(series.name())));
  }
  if (first_time) {
    const int64_t start_step =
        live.job.attempts().empty() ? 0 : live.job.attempts().rbegin()->start_step();
    // Everything from its start on is to be repeated before something new comes.
    const bool repeats = live.series[it->second - 1].last_step >= start_step;
    known->second = {it->second, repeats ? 0 : -1, /*changed=*/true};
  }
  return absl::OkStatus();
}

// Ends of the series when the report began: what lies at or before them is repeated.
using Ends = absl::flat_hash_map<uint32_t, int64_t>;

absl::Status IngestBlock(const v1::MetricBlock& block,
                         LiveJob& live,
                         Ends& ends,
                         IngestedReport& out) {
  const int rows = block.steps_size();
  const int columns = block.series_size();
  // The block in the job's ids, and for each column its first new row.
  v1::MetricBlock mapped = block;
  std::vector<int> first_new(columns);
  for (int column = 0; column < columns; ++column) {
    const auto it = live.attempt_series.find(block.series(column));
    if (it == live.attempt_series.end()) {
      return InvalidReport(absl::StrCat("series id ", block.series(column), " was never defined"));
    }
    AttemptSeries& attempt_series = it->second;
    const uint32_t id = attempt_series.series;
    mapped.set_series(column, id);
    SeriesTail& tail = live.series[id - 1];
    const int64_t end = ends.try_emplace(id, tail.last_step).first->second;
    const auto steps = block.steps();
    first_new[column] =
        static_cast<int>(std::upper_bound(steps.begin(), steps.end(), end) - steps.begin());
    for (int row = 0; row < first_new[column]; ++row) {
      out.repeated.push_back({id, block.steps(row), block.values(row * columns + column)});
    }
    if (attempt_series.repeated >= 0 && first_new[column] > 0) {
      attempt_series.repeated += first_new[column];
      attempt_series.changed = true;
    }
    if (first_new[column] == rows) {
      continue;
    }
    if (attempt_series.repeated >= 0) {
      out.caught_up.push_back({id, tail.last_step, attempt_series.repeated});
      attempt_series.repeated = -1;
      attempt_series.changed = true;
    }
    if (block.steps(first_new[column]) <= tail.last_step) {
      return InvalidReport(absl::StrCat("step ", block.steps(first_new[column]), " of series ",
                                        QuotedForMessage(tail.series.name()),
                                        " comes twice in one report"));
    }
    for (int row = first_new[column]; row < rows; ++row) {
      tail.nans += std::isnan(block.values(row * columns + column)) ? 1 : 0;
    }
    tail.points += rows - first_new[column];
    tail.last_step = block.steps(rows - 1);
    tail.last_value = block.values((rows - 1) * columns + column);
    tail.changed = true;
    out.points += rows - first_new[column];
  }
  // A column that is new from some row on stays so: the block falls apart at these rows.
  std::vector<int> cuts = first_new;
  std::sort(cuts.begin(), cuts.end());
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
  if (cuts.size() == 1 && cuts[0] == 0) {
    *out.records.emplace_back().mutable_metrics() = std::move(mapped);
    return absl::OkStatus();
  }
  for (size_t i = 0; i < cuts.size() && cuts[i] < rows; ++i) {
    const int end = i + 1 < cuts.size() ? cuts[i + 1] : rows;
    std::vector<int> kept;
    for (int column = 0; column < columns; ++column) {
      if (first_new[column] <= cuts[i]) {
        kept.push_back(column);
      }
    }
    *out.records.emplace_back().mutable_metrics() = Slice(mapped, cuts[i], end, kept);
  }
  return absl::OkStatus();
}

// Whether clients can show it: from 1970 to the end of 9999.
bool IsShowable(const google::protobuf::Timestamp& time) {
  return time.seconds() >= 0 && time.seconds() <= 253'402'300'799 && time.nanos() >= 0 &&
         time.nanos() <= 999'999'999;
}

v1::LogLine CleanLogLine(const v1::LogLine& line, int32_t attempt, absl::Time now) {
  v1::LogLine clean = line;
  clean.set_attempt(attempt);
  if (!clean.has_time() || !IsShowable(clean.time())) {
    *clean.mutable_time() = ToTimestamp(now);
  }
  if (clean.severity() == v1::LogLine::SEVERITY_UNSPECIFIED) {
    clean.set_severity(v1::LogLine::INFO);
  }
  if (clean.text().size() > kMaxLogBytes) {
    clean.mutable_text()->resize(kMaxLogBytes);
    std::string& text = *clean.mutable_text();
    // Not in the middle of a UTF-8 character: drop its continuation bytes and its first one.
    while (!text.empty() && (text.back() & 0xC0) == 0x80) {
      text.pop_back();
    }
    if (!text.empty() && (text.back() & 0xC0) == 0xC0) {
      text.pop_back();
    }
    absl::StrAppend(&text, "... (cut)");
  }
  return clean;
}

}  // namespace

absl::Status IngestSegments(const v1::WorkerReport& report,
                            absl::Time now,
                            LiveJob& live,
                            IngestedReport& out) {
  for (const v1::Series& series : report.new_series()) {
    NORMLAB_RETURN_IF_ERROR(DefineSeries(series, live));
  }
  Ends ends;
  for (const v1::Segment& segment : report.segments()) {
    if (segment.has_metrics()) {
      NORMLAB_RETURN_IF_ERROR(IngestBlock(segment.metrics(), live, ends, out));
    } else {
      *out.records.emplace_back().mutable_log() = CleanLogLine(segment.log(), live.attempt, now);
    }
  }
  return absl::OkStatus();
}

}  // namespace normlab::server
