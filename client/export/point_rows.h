#pragma once

#include <string>
#include <vector>

#include "absl/time/time.h"

#include "client/export/export_run.h"

#include "normlab/v1/job.pb.h"

namespace normlab::client {

// Rows of the long form, one point each, for CSV and JSON lines. Full precision: a number reads back
// as exactly the one that was measured. All functions are thread-safe.

// "job,experiment,cell,AXES...,seed,state,series,step,wall_time,value" and a line break; the axes'
// columns are called by their field's path.
std::string PointCsvHeader(const std::vector<std::string>& axes);

// The rows of one record, for a run of `job`. wall_time: seconds since 1970, with microseconds.
void AppendPointCsv(const std::vector<std::string>& axes,
                    const ExportRun& run,
                    const normlab::v1::Job& job,
                    absl::Time wall_time,
                    const MetricRecord& record,
                    std::string& out);

// {"job":...,"experiment":...,"cell":...,"axes":{...},"seed":...,"state":...,"series":...,"step":...,
// "wallTime":...,"value":...} lines; without what a job outside of experiments does not have.
// Numbers that are not finite stand in quotes, as in protobuf's JSON.
void AppendPointJson(const ExportRun& run,
                     const normlab::v1::Job& job,
                     absl::Time wall_time,
                     const MetricRecord& record,
                     std::string& out);

}  // namespace normlab::client
