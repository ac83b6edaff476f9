#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "client/report/report.h"
#include "client/studies/run.h"
#include "client/studies/verdict.h"

// What analyses compute from the series of jobs. All functions are pure.
namespace normlab::client::studies {

// One number of one job; NaN where it has none.
using Measure = std::function<double(const SeedRun&)>;

// Ratios beyond 10^+-this, and those to an overflow, count as that much.
inline constexpr double kLargestLogRatio = 6;

// The last value of an accuracy series; a diverged job's is `chance`, one without a result has none.
double FinalAccuracy(const SeedRun& seed, absl::string_view series, double chance = 0.1);
// The mean of the last `count` values of train/accuracy or train/loss. Diverged: `worst`.
double RecentMean(const SeedRun& seed, absl::string_view series, int count, double worst);
// Whether the net learned at all: the mean train/loss of some 20 consecutive steps fell below `level`.
bool LeftPlateau(const SeedRun& seed, double level);
// Of the values of a series, from step `from` on. The mean of logarithms to base 10; an overflow counts as
// 10^kLargestLogRatio times the largest finite value of the series. NaN without values.
double MeanLog10(const SeedRun& seed, absl::string_view series, int64_t from = 0);
// Their median; infinite if most are.
double Median(const SeedRun& seed, absl::string_view series, int64_t from = 0);
double Mean(const SeedRun& seed, absl::string_view series, int64_t from = 0);

// log10(a / b), limited to +-kLargestLogRatio; an infinity is larger than every number. NaN with a NaN, or with two
// infinities.
double LogRatio(double a, double b);

// Values of the seeds of a cell.
Sample Over(const CellRun& cell, const Measure& measure, std::string name = "");
// minuend - subtrahend for the seeds that both have.
Sample Difference(const CellRun& minuend,
                  const CellRun& subtrahend,
                  const Measure& measure,
                  std::string name = "");
// log10(numerator / denominator) likewise.
Sample Ratio(const CellRun& numerator,
             const CellRun& denominator,
             const Measure& measure,
             std::string name = "");

// Names of the weight layers that have layers/<name>/<quantity>, in the order of the network (numbers count as numbers).
std::vector<std::string> LayersWith(const CellRun& cell, absl::string_view quantity);
std::string LayerSeries(absl::string_view layer, absl::string_view quantity);

// The mean over seeds of a series against steps, with a band from the smallest to the largest seed, in at most `bins` bins
// of steps. Steps that not every seed has (with a value that is finite) are left out.
report::Line Curve(const CellRun& cell, absl::string_view series, std::string name, int bins = 150);
// A band from the mean of `low` to the mean of `high`, with the geometric mean of both as the line.
report::Line Band(const CellRun& cell,
                  absl::string_view low,
                  absl::string_view high,
                  std::string name,
                  int bins = 150);
// A dot with mean, 95% interval and single values.
report::DotChart::Dot Dot(std::string category, std::string group, const Sample& sample);

// Mean, interval and count of a sample as cells of a table: "0.912", "0.905 to 0.919", 5.
std::vector<report::Table::Value> SummaryCells(const Sample& sample);
// Columns of SummaryCells, after `first`.
std::vector<std::string> SummaryColumns(std::vector<std::string> first, const std::string& value);

// "train/loss" and "train/accuracy" of the cells of a part, as two charts with a line for each cell.
std::vector<report::Chart> TrainingCurves(const PartRun& part, bool accuracy = true);

}  // namespace normlab::client::studies
