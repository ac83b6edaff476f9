#include "server/store/report.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "common/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/names.h"
#include "server/domain/proto_time.h"
#include "server/store/segments.h"

namespace normlab::server {
namespace {

constexpr size_t kMaxSeriesNameBytes = 200;
constexpr size_t kMaxLogBytes = 16 << 10;
constexpr size_t kMaxSeriesPerJob = 100'000;

absl::Status CheckBlock(const v1::MetricBlock& block) {
  if (block.steps().empty() || block.series().empty()) {
    return InvalidReport("a metric block without steps or without series");
  }
  if (int64_t{block.steps_size()} * block.series_size() != block.values_size()) {
    return InvalidReport(absl::StrCat("a metric block of ", block.steps_size(), " steps and ",
                                      block.series_size(), " series has ", block.values_size(),
                                      " values"));
  }
  if (!block.elapsed_us().empty() && block.elapsed_us_size() != block.steps_size()) {
    return InvalidReport(absl::StrCat("a metric block of ", block.steps_size(), " steps has ",
                                      block.elapsed_us_size(), " times"));
  }
  int64_t previous = -1;
  for (const int64_t step : block.steps()) {
    if (step <= previous) {
      return InvalidReport(
          absl::StrCat("step ", step, " follows step ", previous, " in a metric block"));
    }
    previous = step;
  }
  absl::flat_hash_set<uint32_t> seen;
  for (const uint32_t id : block.series()) {
    if (!seen.insert(id).second) {
      return InvalidReport(absl::StrCat("series ", id, " stands twice in a metric block"));
    }
  }
  return absl::OkStatus();
}

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

v1::LogLine CleanLogLine(const v1::LogLine& line, int32_t attempt, absl::Time now) {
  v1::LogLine clean = line;
  clean.set_attempt(attempt);
  if (!clean.has_time()) {
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

absl::Status CheckReport(const v1::WorkerReport& report) {
  if (report.number() < 1) {
    return InvalidReport(absl::StrCat("report number ", report.number(), " (they start at 1)"));
  }
  for (const v1::Series& series : report.new_series()) {
    if (series.name().empty() || series.name().size() > kMaxSeriesNameBytes) {
      return InvalidReport(absl::StrCat("a series name of ", series.name().size(), " bytes"));
    }
  }
  for (const v1::Segment& segment : report.segments()) {
    switch (segment.kind_case()) {
      case v1::Segment::kMetrics:
        NORMLAB_RETURN_IF_ERROR(CheckBlock(segment.metrics()));
        break;
      case v1::Segment::kLog:
        break;
      default:
        return InvalidReport("a segment that is neither metrics nor a log line");
    }
  }
  if (report.has_checkpoint()) {
    const std::string& folder = report.checkpoint().folder();
    const std::vector<std::string> parts = absl::StrSplit(folder, '/');
    if (folder.empty() || absl::StartsWith(folder, "/") ||
        std::find(parts.begin(), parts.end(), "..") != parts.end() ||
        report.checkpoint().step() < 0) {
      return InvalidReport(absl::StrCat("a checkpoint at step ", report.checkpoint().step(),
                                        " in folder ", QuotedForMessage(folder),
                                        ", which must be relative to the work folder"));
    }
  }
  return absl::OkStatus();
}

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
