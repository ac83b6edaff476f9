#include "client/cli/experiment_view.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "client/cli/job_view.h"
#include "client/lib/number_format.h"

namespace normlab::client {
namespace {

using normlab::v1::Cell;
using normlab::v1::Experiment;
using normlab::v1::JobCounts;
using normlab::v1::Statistic;

constexpr int kWidestValue = 24;

std::string LastName(const std::string& path) {
  const std::vector<std::string> names = absl::StrSplit(path, '.');
  return names.back();
}

void AddCount(std::vector<std::string>& parts, int count, absl::string_view text) {
  if (count > 0) {
    parts.push_back(absl::StrCat(count, " ", text));
  }
}

std::string Number(double value) {
  return std::isnan(value) ? "-" : FormatRounded(value);
}

std::string IntervalText(double low, double high) {
  return std::isnan(low) ? "-" : absl::StrCat(FormatRounded(low), " .. ", FormatRounded(high));
}

// What a cell's jobs did other than succeed: "1 diverged, 2 failed".
std::string Losses(const JobCounts& counts) {
  std::vector<std::string> parts;
  AddCount(parts, counts.diverged(), "diverged");
  AddCount(parts, counts.failed(), "failed");
  AddCount(parts, counts.cancelled(), "cancelled");
  AddCount(parts, counts.running(), "running");
  AddCount(parts, counts.queued(), "queued");
  AddCount(parts, counts.paused(), "paused");
  return absl::StrJoin(parts, ", ");
}

std::string RangeText(const normlab::v1::Range& range) {
  return absl::StrFormat("%g .. %g%s%s", range.minimum(), range.maximum(),
                         range.logarithmic() ? ", logarithmic" : "",
                         range.integer() ? ", whole numbers" : "");
}

std::string DesignText(const Experiment& experiment) {
  std::string text;
  for (const normlab::v1::Axis& axis : experiment.design().axes()) {
    absl::StrAppend(
        &text, "  ", Printable(axis.field()), ": ",
        Printable(axis.has_range() ? RangeText(axis.range()) : absl::StrJoin(axis.values(), ", ")),
        "\n");
  }
  if (experiment.design().has_random()) {
    absl::StrAppend(&text, "  ", experiment.design().random().cells(),
                    " random cells, drawn with seed ", experiment.design().random().seed(), "\n");
  }
  if (!experiment.design().seeds().empty()) {
    absl::StrAppend(&text, "  seeds: ", absl::StrJoin(experiment.design().seeds(), ", "), "\n");
  }
  return text;
}

}  // namespace

DesignFields FieldsOf(const Experiment& experiment) {
  DesignFields fields;
  for (const normlab::v1::Axis& axis : experiment.design().axes()) {
    fields.paths.push_back(axis.field());
  }
  if (fields.paths.empty()) {
    std::set<std::string> paths;
    for (const Cell& cell : experiment.cells()) {
      for (const auto& [path, value] : cell.values()) {
        paths.insert(path);
      }
    }
    fields.paths.assign(paths.begin(), paths.end());
  }
  std::map<std::string, int> uses;
  for (const std::string& path : fields.paths) {
    ++uses[LastName(path)];
  }
  for (const std::string& path : fields.paths) {
    fields.headings.push_back(Printable(uses[LastName(path)] == 1 ? LastName(path) : path));
  }
  return fields;
}

std::vector<std::string> CellValues(const DesignFields& fields,
                                    const google::protobuf::Map<std::string, std::string>& values) {
  std::vector<std::string> texts;
  for (const std::string& path : fields.paths) {
    const auto found = values.find(path);
    texts.push_back(found == values.end() ? "-" : Shorten(Printable(found->second), kWidestValue));
  }
  return texts;
}

int EndedJobs(const JobCounts& counts) {
  return counts.succeeded() + counts.diverged() + counts.failed() + counts.cancelled();
}

int TotalJobs(const JobCounts& counts) {
  return EndedJobs(counts) + counts.queued() + counts.running() + counts.paused();
}

std::string FormatCounts(const Output& out, const JobCounts& counts) {
  std::vector<std::string> ended;
  AddCount(ended, counts.succeeded(), out.Paint(Color::kGreen, "succeeded"));
  AddCount(ended, counts.diverged(), out.Paint(Color::kYellow, "diverged"));
  AddCount(ended, counts.failed(), out.Paint(Color::kRed, "failed"));
  AddCount(ended, counts.cancelled(), "cancelled");
  std::vector<std::string> open;
  AddCount(open, counts.running(), out.Paint(Color::kCyan, "running"));
  AddCount(open, counts.queued(), "queued");
  AddCount(open, counts.paused(), "paused");
  std::string text = absl::StrCat(EndedJobs(counts), " of ", TotalJobs(counts),
                                  TotalJobs(counts) == 1 ? " job ended" : " jobs ended");
  if (!ended.empty()) {
    absl::StrAppend(&text, ": ", absl::StrJoin(ended, ", "));
  }
  if (!open.empty()) {
    absl::StrAppend(&text, "; ", absl::StrJoin(open, ", "));
  }
  return text;
}

std::string Table(const Output& out,
                  const std::vector<std::vector<std::string>>& rows,
                  const std::vector<bool>& right) {
  std::vector<int> widths(right.size(), 0);
  for (const std::vector<std::string>& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], DisplayWidth(row[i]));
    }
  }
  std::string text;
  for (size_t r = 0; r < rows.size(); ++r) {
    std::string line;
    for (size_t i = 0; i < rows[r].size(); ++i) {
      const std::string& cell = rows[r][i];
      const auto room = static_cast<size_t>(widths[i] - DisplayWidth(cell));
      absl::StrAppend(&line, i == 0 ? "" : "  ",
                      right[i] ? absl::StrCat(std::string(room, ' '), cell)
                               : absl::StrCat(cell, std::string(room, ' ')));
    }
    line.erase(line.find_last_not_of(' ') + 1);
    absl::StrAppend(&text, r == 0 ? out.Paint(Color::kBold, line) : line, "\n");
  }
  return text;
}

std::string ExperimentTable(const Output& out,
                            const std::vector<Experiment>& experiments,
                            bool with_header) {
  constexpr int kWidestDisplayName = 32;
  std::vector<std::vector<std::string>> rows;
  rows.push_back(
      {"NAME", "JOBS", "ENDED", "SUCCEEDED", "DIVERGED", "FAILED", "CREATED", "DISPLAY NAME"});
  for (const Experiment& experiment : experiments) {
    const JobCounts& counts = experiment.counts();
    rows.push_back({experiment.name(), absl::StrCat(TotalJobs(counts)),
                    absl::StrCat(EndedJobs(counts)), absl::StrCat(counts.succeeded()),
                    absl::StrCat(counts.diverged()), absl::StrCat(counts.failed()),
                    FormatTimestamp(experiment.create_time()),
                    Shorten(Printable(experiment.display_name()), kWidestDisplayName)});
  }
  std::string text = Table(out, rows, {false, true, true, true, true, true, false, false});
  if (!with_header) {
    text.erase(0, text.find('\n') + 1);
  }
  return text;
}

std::string CellTable(const Output& out, const Experiment& experiment, int max_cells) {
  const DesignFields fields = FieldsOf(experiment);
  // Those that are done, or have not begun, have least to tell.
  std::vector<int> shown(static_cast<size_t>(experiment.cells_size()));
  for (int i = 0; i < experiment.cells_size(); ++i) {
    shown[static_cast<size_t>(i)] = i;
  }
  if (experiment.cells_size() > max_cells) {
    std::stable_sort(shown.begin(), shown.end(), [&](int a, int b) {
      const auto interest = [&](int cell) {
        const JobCounts& counts = experiment.cells(cell).counts();
        return counts.running() > 0 ? 2 : EndedJobs(counts) > 0 ? 1 : 0;
      };
      return interest(a) > interest(b);
    });
    shown.resize(static_cast<size_t>(max_cells));
    std::sort(shown.begin(), shown.end());
  }
  std::vector<std::vector<std::string>> rows(1, {"CELL"});
  std::vector<bool> right = {true};
  for (const std::string& heading : fields.headings) {
    rows[0].push_back(heading);
    right.push_back(false);
  }
  for (const char* heading : {"ENDED", "SUCCEEDED", "OTHERWISE"}) {
    rows[0].emplace_back(heading);
    right.push_back(rows[0].back() != "OTHERWISE");
  }
  for (const int index : shown) {
    const Cell& cell = experiment.cells(index);
    std::vector<std::string> row = {absl::StrCat(index)};
    for (std::string& value : CellValues(fields, cell.values())) {
      row.push_back(std::move(value));
    }
    row.push_back(absl::StrCat(EndedJobs(cell.counts()), "/", TotalJobs(cell.counts())));
    row.push_back(absl::StrCat(cell.counts().succeeded()));
    row.push_back(Losses(cell.counts()));
    rows.push_back(std::move(row));
  }
  std::string text = Table(out, rows, right);
  if (experiment.cells_size() > max_cells) {
    absl::StrAppend(&text, "and ", experiment.cells_size() - max_cells, " more cells\n");
  }
  return text;
}

std::string DescribeExperiment(const Output& out, const Experiment& experiment, int max_cells) {
  std::string text = out.Paint(Color::kBold, experiment.name());
  if (!experiment.display_name().empty()) {
    absl::StrAppend(&text, experiment.name().empty() ? "" : "  ",
                    Printable(experiment.display_name()));
  }
  absl::StrAppend(&text, "\n", DesignText(experiment));
  if (!experiment.name().empty()) {
    absl::StrAppend(&text, "  created ", FormatTimestamp(experiment.create_time()), " by ",
                    Printable(experiment.owner()),
                    experiment.has_end_time()
                        ? absl::StrCat(", ended ", FormatTimestamp(experiment.end_time()))
                        : std::string(),
                    "\n  ", FormatCounts(out, experiment.counts()), "\n");
  }
  return max_cells == 0 ? text : absl::StrCat(text, CellTable(out, experiment, max_cells));
}

std::string SummaryTables(const Output& out,
                          const Experiment& experiment,
                          const normlab::v1::ExperimentSummary& summary,
                          double confidence) {
  const DesignFields fields = FieldsOf(experiment);
  std::vector<std::string> series;
  bool differences = false;
  for (const normlab::v1::CellSummary& cell : summary.cells()) {
    for (const Statistic& statistic : cell.statistics()) {
      if (std::find(series.begin(), series.end(), statistic.series()) == series.end()) {
        series.push_back(statistic.series());
      }
      differences = differences || statistic.has_difference_mean();
    }
  }
  const std::string percent = absl::StrFormat("%g%% INTERVAL", 100 * confidence);
  std::string text;
  for (const std::string& name : series) {
    std::vector<std::vector<std::string>> rows(1, {"CELL"});
    std::vector<bool> right = {true};
    for (const std::string& heading : fields.headings) {
      rows[0].push_back(heading);
      right.push_back(false);
    }
    std::vector<std::string> columns = {"MEAN", percent, "SD", "MIN", "MAX", "N"};
    if (differences) {
      columns.insert(columns.end(), {"TO BASELINE", percent, "PAIRS"});
    }
    columns.emplace_back("OTHERWISE");
    for (const std::string& column : columns) {
      rows[0].push_back(column);
      right.push_back(column != "OTHERWISE");
    }
    for (int c = 0; c < summary.cells_size(); ++c) {
      const normlab::v1::CellSummary& cell = summary.cells(c);
      const auto found = std::find_if(cell.statistics().begin(), cell.statistics().end(),
                                      [&](const Statistic& one) { return one.series() == name; });
      if (found == cell.statistics().end()) {
        continue;
      }
      std::vector<std::string> row = {absl::StrCat(c)};
      for (std::string& value : CellValues(fields, cell.values())) {
        row.push_back(std::move(value));
      }
      row.insert(row.end(), {Number(found->mean()),
                             IntervalText(found->interval_low(), found->interval_high()),
                             Number(found->standard_deviation()), Number(found->minimum()),
                             Number(found->maximum()), absl::StrCat(found->n())});
      if (differences) {
        row.insert(row.end(), {Number(found->difference_mean()),
                               IntervalText(found->difference_low(), found->difference_high()),
                               absl::StrCat(found->difference_n())});
      }
      row.push_back(Losses(cell.counts()));
      rows.push_back(std::move(row));
    }
    absl::StrAppend(&text, text.empty() ? "" : "\n", out.Paint(Color::kCyan, Printable(name)), "\n",
                    Table(out, rows, right));
  }
  return text.empty() ? "no job has succeeded yet\n" : text;
}

}  // namespace normlab::client
