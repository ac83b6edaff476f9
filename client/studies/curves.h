#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "client/report/report.h"
#include "client/studies/measure.h"
#include "client/studies/run.h"
#include "client/studies/verdict.h"

// How analyses show the series and samples of jobs: as lines, dots and cells of tables. All functions are pure.
namespace normlab::client::studies {

// The mean over the seeds that succeeded of a series against steps, with a band from the smallest to the largest seed, in at
// most `bins` bins of steps; steps that not every one of them has are left out. Empty while none has succeeded.
report::Line Curve(const CellRun& cell, absl::string_view series, std::string name, int bins = 150);
// Adds that curve, and each job that diverged or is not over as a line of its own, which ends where it did.
void AddCurves(const CellRun& cell,
               absl::string_view series,
               const std::string& name,
               report::LineChart& chart,
               const std::string& facet = "",
               int bins = 150);
// What captions say of curves.
inline constexpr char kCurvesCaption[] =
    "Mean over the seeds that succeeded, band from the smallest to the largest; a job that "
    "diverged or is not over is a line "
    "of its own.";
// A band from the mean of `low` to the mean of `high`, with the geometric mean of both as the line.
report::Line Band(const CellRun& cell,
                  absl::string_view low,
                  absl::string_view high,
                  std::string name,
                  int bins = 150);
// A dashed upright line where the last seed begins to be judged; none where all are from step 0 on.
void AddStarts(const Starts& starts, report::LineChart& chart);
// "The dashed line: from here on every seed is judged (the first from step 60 on)."
std::string StartsCaption(const Starts& starts);
// A dot with mean, 95% interval and single values. Not drawn where a seed is infinite.
report::DotChart::Dot Dot(std::string category, std::string group, const Sample& sample);

// Mean, interval, count and diverged jobs of a sample as cells of a table: 0.912, "0.905 to 0.919", 5, 0. With `logarithms`
// the values are logarithms to base 10, and mean (a geometric one) and interval those of the numbers.
std::vector<report::Table::Value> SummaryCells(const Sample& sample, bool logarithms = false);
// Columns of SummaryCells, after `first`.
std::vector<std::string> SummaryColumns(std::vector<std::string> first, const std::string& value);

// "train/loss" and "train/accuracy" of the cells of a part, as two charts with lines for each cell.
std::vector<report::Chart> TrainingCurves(const PartRun& part, bool accuracy = true);

}  // namespace normlab::client::studies
