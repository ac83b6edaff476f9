#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "client/report/report.h"
#include "client/studies/run.h"
#include "client/studies/verdict.h"

// What analyses compute from the series of jobs. All functions are pure.
namespace normlab::client::studies {

// One number of one job. Only ValueOf looks at what became of the job, so that no analysis can forget to.
struct Measure {
  std::function<double(const SeedRun&)> of;  // of a job that succeeded; NaN: it has none
  double worst = 0;                          // of one that diverged, whatever it did before
};

// The measure of a job: `worst` if it diverged, NaN without a result (it failed, was cancelled, or is not over).
double ValueOf(const SeedRun& seed, const Measure& measure);

// Ratios beyond 10^+-this, and those to an overflow, count as that much.
inline constexpr double kLargestLogRatio = 6;

// The last value of a series; accuracies of diverged jobs are `chance`, losses are infinite.
Measure FinalAccuracy(std::string series, double chance = 0.1);
Measure FinalLoss(std::string series);
// The mean of the last `count` values of train/accuracy or train/loss.
Measure RecentMean(std::string series, int count, double worst);

// The first step from which on a net has left the plateau: the mean train/loss of the last 20 steps is below `level` for the
// first time. Nothing when it never is.
std::optional<int64_t> PlateauEnd(const SeedRun& seed, double level);
// By seed: the step from which on a pair of nets is judged.
using Starts = std::map<uint32_t, int64_t>;
// The first step at which both nets of a seed have left the plateau; the other's where one has not (it diverged, or the claim's
// precondition fails), 0 where none has.
Starts BothLeftPlateau(const CellRun& a, const CellRun& b, double level);
int64_t StartOf(const Starts& starts, const SeedRun& seed);

// Of the values of a series, from step `from` on, whatever became of the job. Logarithms to base 10; an overflow counts as
// 10^kLargestLogRatio times the largest finite value of the series (infinite where all overflow), zeros are left out.
std::vector<double> Log10Values(const SeedRun& seed, absl::string_view series, int64_t from = 0);
// Their mean. NaN without values.
double MeanLog10(const SeedRun& seed, absl::string_view series, int64_t from = 0);
// The median of the values; infinite if most are.
double Median(const SeedRun& seed, absl::string_view series, int64_t from = 0);
double Mean(const SeedRun& seed, absl::string_view series, int64_t from = 0);

// log10(a / b), limited to +-kLargestLogRatio; an infinity is larger than every number, and two are a tie: 0. NaN with a NaN.
double LogRatio(double a, double b);
// a - b of two logarithms, limited likewise.
double LogMinus(double a, double b);
// a - b; +-kLargestLogRatio with one infinity, 0 with two of one sign.
double Minus(double a, double b);

// Values of the seeds of a cell.
Sample Over(const CellRun& cell, const Measure& measure, std::string name = "");
// The two samples seed by seed, on the jobs of both.
Sample Combine(Sample a, const Sample& b, double (*combine)(double, double));
// Minus(minuend, subtrahend) for the seeds that both have.
Sample Difference(const CellRun& minuend,
                  const CellRun& subtrahend,
                  const Measure& measure,
                  std::string name = "");
// LogRatio(numerator, denominator) likewise.
Sample Ratio(const CellRun& numerator,
             const CellRun& denominator,
             const Measure& measure,
             std::string name = "");

// Names of the weight layers that have layers/<name>/<quantity>, in the order of the network (numbers count as numbers).
std::vector<std::string> LayersWith(const CellRun& cell, absl::string_view quantity);
std::string LayerSeries(absl::string_view layer, absl::string_view quantity);

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
