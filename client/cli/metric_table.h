#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "client/cli/output.h"

#include "normlab/v1/jobs.pb.h"

namespace normlab::client {

// One step of several series; a series without a point at the step has none here.
struct MetricRow {
  int64_t step = 0;
  std::vector<std::optional<double>> cells;  // one per column
};

// "step,train/loss,..." with quotes where CSV needs them, and a line break.
std::string CsvHeader(const std::vector<std::string>& columns);
// "12,0.25," and so on: full precision, empty where there is no point, and a line break.
std::string CsvRow(const MetricRow& row);
// {"step":"12","values":{"train/loss":0.25}} and a line break; 64-bit and non-finite numbers as
// protobuf's JSON has them.
std::string JsonRow(const std::vector<std::string>& columns, const MetricRow& row);

// Points of several series, gathered from the pieces of ReadMetrics. Not thread-safe.
class MetricTable {
 public:
  // `columns`: the order of series; others follow as they come.
  explicit MetricTable(const std::vector<std::string>& columns);

  void Add(const normlab::v1::ReadMetricsResponse& part);

  // In the order of steps, a line for each step that any series has.
  void WriteCsv(Output& out) const;
  void WriteJsonLines(Output& out) const;
  // One document: {"series":[{"name":"train/loss","steps":["0","1"],"values":[2.3,2.2]}]}.
  void WriteJson(Output& out) const;
  // A chart of each series that has points.
  void WriteCharts(Output& out) const;

 private:
  struct Series {
    std::string name;
    std::vector<int64_t> steps;
    std::vector<double> values;
  };

  std::vector<std::string> Columns() const;
  // Calls `write` for every row; stops when the output is broken.
  template <typename Write>
  void ForEachRow(const Output& out, Write write) const;

  std::vector<Series> series_;
  std::map<std::string, size_t> index_;
};

}  // namespace normlab::client
