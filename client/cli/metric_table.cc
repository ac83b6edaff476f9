#include "client/cli/metric_table.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"

#include "client/cli/terminal_chart.h"
#include "client/lib/csv_field.h"
#include "client/lib/number_format.h"

namespace normlab::client {
namespace {

constexpr int kWidestChart = 100;

}  // namespace

std::string CsvHeader(const std::vector<std::string>& columns) {
  std::string line = "step";
  for (const std::string& column : columns) {
    absl::StrAppend(&line, ",", CsvField(column));
  }
  return absl::StrCat(line, "\n");
}

std::string CsvRow(const MetricRow& row) {
  std::string line = absl::StrCat(row.step);
  for (const std::optional<double>& cell : row.cells) {
    absl::StrAppend(&line, ",", cell.has_value() ? FormatDouble(*cell) : "");
  }
  return absl::StrCat(line, "\n");
}

std::string JsonRow(const std::vector<std::string>& columns, const MetricRow& row) {
  std::string line = absl::StrCat("{\"step\":\"", row.step, "\",\"values\":{");
  absl::string_view separator = "";
  for (size_t i = 0; i < row.cells.size(); ++i) {
    if (row.cells[i].has_value()) {
      absl::StrAppend(&line, separator, FormatJsonString(columns[i]), ":",
                      FormatJsonDouble(*row.cells[i]));
      separator = ",";
    }
  }
  return absl::StrCat(line, "}}\n");
}

MetricTable::MetricTable(const std::vector<std::string>& columns) {
  for (const std::string& column : columns) {
    if (index_.emplace(column, series_.size()).second) {
      series_.push_back({.name = column, .steps = {}, .values = {}});
    }
  }
}

void MetricTable::Add(const normlab::v1::ReadMetricsResponse& part) {
  const auto [found, is_new] = index_.emplace(part.series(), series_.size());
  if (is_new) {
    series_.push_back({.name = part.series(), .steps = {}, .values = {}});
  }
  Series& series = series_[found->second];
  series.steps.insert(series.steps.end(), part.steps().begin(), part.steps().end());
  series.values.insert(series.values.end(), part.values().begin(), part.values().end());
}

std::vector<std::string> MetricTable::Columns() const {
  std::vector<std::string> names;
  for (const Series& series : series_) {
    names.push_back(series.name);
  }
  return names;
}

template <typename Write>
void MetricTable::ForEachRow(const Output& out, Write write) const {
  constexpr int64_t kNone = std::numeric_limits<int64_t>::max();
  std::vector<size_t> next(series_.size(), 0);
  MetricRow row;
  while (out.status().ok()) {
    row.step = kNone;
    for (size_t i = 0; i < series_.size(); ++i) {
      if (next[i] < series_[i].steps.size()) {
        row.step = std::min(row.step, series_[i].steps[next[i]]);
      }
    }
    if (row.step == kNone) {
      return;
    }
    row.cells.assign(series_.size(), std::nullopt);
    for (size_t i = 0; i < series_.size(); ++i) {
      if (next[i] < series_[i].steps.size() && series_[i].steps[next[i]] == row.step) {
        row.cells[i] = series_[i].values[next[i]++];
      }
    }
    write(row);
  }
}

void MetricTable::WriteCsv(Output& out) const {
  out.Write(CsvHeader(Columns()));
  ForEachRow(out, [&](const MetricRow& row) { out.Write(CsvRow(row)); });
}

void MetricTable::WriteJsonLines(Output& out) const {
  const std::vector<std::string> columns = Columns();
  ForEachRow(out, [&](const MetricRow& row) { out.Write(JsonRow(columns, row)); });
}

void MetricTable::WriteJson(Output& out) const {
  out.Write("{\"series\":[");
  absl::string_view separator = "";
  for (const Series& series : series_) {
    std::string text =
        absl::StrCat(separator, "\n{\"name\":", FormatJsonString(series.name), ",\"steps\":[");
    for (size_t i = 0; i < series.steps.size(); ++i) {
      absl::StrAppend(&text, i == 0 ? "\"" : ",\"", series.steps[i], "\"");
    }
    absl::StrAppend(&text, "],\"values\":[");
    for (size_t i = 0; i < series.values.size(); ++i) {
      absl::StrAppend(&text, i == 0 ? "" : ",", FormatJsonDouble(series.values[i]));
    }
    out.Write(absl::StrCat(text, "]}"));
    separator = ",";
  }
  out.Write("\n]}\n");
}

void MetricTable::WriteCharts(Output& out) const {
  for (const Series& series : series_) {
    out.Write(series.steps.empty()
                  ? absl::StrCat(Printable(series.name), ": no points yet\n")
                  : RenderChart(Printable(series.name), series.steps, series.values,
                                {.width = std::min(out.Width(), kWidestChart),
                                 .unicode = out.style().unicode}));
  }
}

}  // namespace normlab::client
