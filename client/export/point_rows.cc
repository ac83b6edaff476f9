#include "client/export/point_rows.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "client/lib/csv_field.h"
#include "client/lib/number_format.h"

namespace normlab::client {
namespace {

using normlab::v1::Job;

std::string Seconds(absl::Time time) {
  const int64_t microseconds = absl::ToUnixMicros(time);
  constexpr int64_t kPerSecond = 1'000'000;
  return absl::StrFormat("%d.%06d", microseconds / kPerSecond, microseconds % kPerSecond);
}

}  // namespace

std::string PointCsvHeader(const std::vector<std::string>& axes) {
  std::string line = "job,experiment,cell";
  for (const std::string& axis : axes) {
    absl::StrAppend(&line, ",", CsvField(axis));
  }
  return absl::StrCat(line, ",seed,state,series,step,wall_time,value\n");
}

void AppendPointCsv(const std::vector<std::string>& axes,
                    const ExportRun& run,
                    const Job& job,
                    absl::Time wall_time,
                    const MetricRecord& record,
                    std::string& out) {
  std::string start = absl::StrCat(CsvField(run.job), ",", CsvField(run.experiment), ",",
                                   run.cell < 0 ? std::string() : absl::StrCat(run.cell));
  for (const std::string& axis : axes) {
    const auto value = run.axes.find(axis);
    absl::StrAppend(&start, ",", value == run.axes.end() ? "" : CsvField(value->second));
  }
  absl::StrAppend(&start, ",", job.resolved_spec().seed(), ",", Job::State_Name(job.state()), ",");
  const std::string middle = absl::StrCat(",", record.step, ",", Seconds(wall_time), ",");
  for (size_t i = 0; i < record.series.size(); ++i) {
    absl::StrAppend(&out, start, CsvField(*record.series[i]), middle,
                    FormatDouble(record.values[i]), "\n");
  }
}

void AppendPointJson(const ExportRun& run,
                     const Job& job,
                     absl::Time wall_time,
                     const MetricRecord& record,
                     std::string& out) {
  std::string start = absl::StrCat("{\"job\":", FormatJsonString(run.job));
  if (!run.experiment.empty()) {
    absl::StrAppend(&start, ",\"experiment\":", FormatJsonString(run.experiment),
                    ",\"cell\":", run.cell, ",\"axes\":{");
    absl::string_view separator = "";
    for (const auto& [field, value] : run.axes) {
      absl::StrAppend(&start, separator, FormatJsonString(field), ":", FormatJsonString(value));
      separator = ",";
    }
    absl::StrAppend(&start, "}");
  }
  absl::StrAppend(&start, ",\"seed\":", job.resolved_spec().seed(), ",\"state\":\"",
                  Job::State_Name(job.state()), "\",\"series\":");
  const std::string middle = absl::StrCat(",\"step\":\"", record.step,
                                          "\",\"wallTime\":", Seconds(wall_time), ",\"value\":");
  for (size_t i = 0; i < record.series.size(); ++i) {
    absl::StrAppend(&out, start, FormatJsonString(*record.series[i]), middle,
                    FormatJsonDouble(record.values[i]), "}\n");
  }
}

}  // namespace normlab::client
