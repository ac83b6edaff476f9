#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "client/lib/number_format.h"
#include "client/report/escape.h"
#include "client/report/number_text.h"
#include "client/report/writers.h"

namespace normlab::client::report {
namespace {

using Cells = std::vector<std::string>;

std::string Row(const Cells& cells) {
  return absl::StrCat(absl::StrJoin(cells, ","), "\n");
}

// Empty for what is not there; infinities are values.
std::string Number(double value) {
  return std::isnan(value) ? "" : FormatDouble(value);
}
std::string Number(const std::optional<double>& value) {
  return value.has_value() ? Number(*value) : "";
}
std::string At(const std::vector<double>& values, size_t i) {
  return i < values.size() ? Number(values[i]) : "";
}
std::string Low(const std::optional<Interval>& interval) {
  return interval.has_value() ? Number(interval->low) : "";
}
std::string High(const std::optional<Interval>& interval) {
  return interval.has_value() ? Number(interval->high) : "";
}

// One point of any kind of chart, in the columns that all share.
struct Point {
  std::string series;
  std::string facet;
  std::string x;
  std::string y;
  std::string low;
  std::string high;
  std::string text;
};

std::vector<Point> PointsOf(const LineChart& chart) {
  std::vector<Point> points;
  for (size_t l = 0; l < chart.lines.size(); ++l) {
    const Line& line = chart.lines[l];
    for (size_t i = 0; i < line.x.size(); ++i) {
      points.push_back({.series = CsvField(line.name),
                        .facet = l < chart.facets.size() ? CsvField(chart.facets[l]) : "",
                        .x = Number(line.x[i]),
                        .y = At(line.y, i),
                        .low = At(line.low, i),
                        .high = At(line.high, i)});
    }
  }
  return points;
}

std::vector<Point> PointsOf(const HeatMap& map) {
  std::vector<Point> points;
  for (size_t row = 0; row < map.rows.size(); ++row) {
    for (size_t column = 0; column < map.columns.size(); ++column) {
      const size_t i = row * map.columns.size() + column;
      points.push_back({.series = CsvField(map.rows[row]),
                        .x = CsvField(map.columns[column]),
                        .y = At(map.values, i),
                        .text = i < map.texts.size() ? CsvField(map.texts[i]) : ""});
    }
  }
  return points;
}

// The mean, then each seed by itself.
std::vector<Point> PointsOf(const DotChart& chart) {
  std::vector<Point> points;
  for (const DotChart::Dot& dot : chart.dots) {
    points.push_back({.series = CsvField(dot.group),
                      .x = CsvField(dot.category),
                      .y = Number(dot.value),
                      .low = Low(dot.interval),
                      .high = High(dot.interval),
                      .text = "mean"});
    for (const double seed : dot.seeds) {
      points.push_back({.series = CsvField(dot.group),
                        .x = CsvField(dot.category),
                        .y = Number(seed),
                        .text = "seed"});
    }
  }
  return points;
}

std::vector<Point> PointsOf(const Chart& chart) {
  return std::visit([](const auto& body) { return PointsOf(body); }, chart.body);
}

std::string ValueText(const Table::Value& value) {
  const auto* text = std::get_if<std::string>(&value);
  return text != nullptr ? CsvField(*text) : Number(std::get<double>(value));
}

std::string ClaimsFile(const std::vector<Claim>& claims) {
  std::string text =
      "id,verdict,value,low,high,confidence,seeds,jobs,diverged,quantity,paper,statement,source,"
      "rule,"
      "reason\n";
  for (const Claim& claim : claims) {
    text += Row(
        {CsvField(claim.id), VerdictText(claim.verdict), Number(claim.value), Low(claim.interval),
         High(claim.interval), Number(claim.confidence), absl::StrCat(claim.seeds),
         absl::StrCat(claim.jobs), absl::StrCat(claim.diverged),
         CsvField(claim.unit.empty() ? claim.quantity
                                     : absl::StrCat(claim.quantity, " [",
                                                    absl::StripAsciiWhitespace(claim.unit), "]")),
         CsvField(claim.paper), CsvField(StatementWithGroup(claim)), CsvField(claim.source),
         CsvField(claim.rule), CsvField(claim.reason)});
  }
  return text;
}

std::string ChartFile(const Chart& chart) {
  std::string text = "series,facet,x,y,low,high,text\n";
  for (const Point& point : PointsOf(chart)) {
    text += Row({point.series, point.facet, point.x, point.y, point.low, point.high, point.text});
  }
  return text;
}

std::string TableFile(const Table& table) {
  Cells names;
  for (const std::string& column : table.columns) {
    names.push_back(CsvField(column));
  }
  std::string text = Row(names);
  for (const std::vector<Table::Value>& row : table.rows) {
    Cells cells;
    for (const Table::Value& value : row) {
      cells.push_back(ValueText(value));
    }
    text += Row(cells);
  }
  return text;
}

}  // namespace

std::string RenderTidyCsv(const Report& report) {
  std::string text = "item,kind,series,facet,x,y,low,high,text\n";
  for (const Claim& claim : report.claims) {
    text += Row({CsvField(claim.id), "claim", "", "", "", Number(claim.value), Low(claim.interval),
                 High(claim.interval), VerdictText(claim.verdict)});
  }
  for (const Section& section : report.sections) {
    for (const Chart& chart : section.charts) {
      for (const Point& point : PointsOf(chart)) {
        text += Row({CsvField(chart.id), "chart", point.series, point.facet, point.x, point.y,
                     point.low, point.high, point.text});
      }
    }
    for (const Table& table : section.tables) {
      for (size_t row = 0; row < table.rows.size(); ++row) {
        for (size_t i = 0; i < table.rows[row].size() && i < table.columns.size(); ++i) {
          const Table::Value& value = table.rows[row][i];
          const bool number = std::holds_alternative<double>(value);
          text +=
              Row({CsvField(table.id), "table", CsvField(table.columns[i]), "", absl::StrCat(row),
                   number ? ValueText(value) : "", "", "", number ? "" : ValueText(value)});
        }
      }
    }
  }
  return text;
}

std::vector<CsvFile> RenderCsvFiles(const Report& report) {
  std::vector<CsvFile> files;
  std::set<std::string> names;
  const auto add = [&](const std::string& id, std::string text) {
    std::string name = PlainFileName(id);
    for (int copy = 2; !names.insert(name).second; ++copy) {
      name = absl::StrCat(PlainFileName(id), "-", copy);
    }
    files.push_back({absl::StrCat(name, ".csv"), std::move(text)});
  };
  if (!report.claims.empty()) {
    add("claims", ClaimsFile(report.claims));
  }
  for (const Section& section : report.sections) {
    for (const Chart& chart : section.charts) {
      add(chart.id, ChartFile(chart));
    }
    for (const Table& table : section.tables) {
      add(table.id, TableFile(table));
    }
  }
  return files;
}

}  // namespace normlab::client::report
