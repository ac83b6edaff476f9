#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "client/report/report.h"

#include "normlab/v1/experiments.pb.h"
#include "normlab/v1/job.pb.h"

// What jobs measured, and the report of it: for jobs and experiments that are no study.
namespace normlab::client::report {

// Points of one series of one job, in the order of steps.
struct SeriesPoints {
  std::vector<double> steps;
  std::vector<double> values;
};

// One job and what it has written so far.
struct RunData {
  normlab::v1::Job job;
  std::map<std::string, SeriesPoints> series;

  bool succeeded() const { return job.state() == normlab::v1::Job::SUCCEEDED; }
  // The last value of a series, of a job that is over; NaN: none.
  double Final(const std::string& name) const;
};

// Jobs that differ in nothing but the seed: a cell of an experiment.
struct RunGroup {
  std::string name;
  std::vector<std::string> levels;  // values of the axes; empty: there are none
  std::vector<RunData> runs;        // in the order of seeds
};

// All that a report is about.
struct RunSet {
  std::vector<std::string> axes;  // of the experiment: paths of fields
  std::vector<RunGroup> groups;
  std::optional<normlab::v1::Experiment> experiment;  // without cells; none: jobs one by one
  std::string server;                                 // version, oneDNN, instruction set, cores
  bool sampled = false;  // some series came with fewer points than they have
};

// Puts jobs that differ only in the seed together, in the order of their first one. A group is called by the display name
// that all its jobs and no others have, else by what its spec differs in, else by its first job. Thread-safe.
std::vector<RunGroup> GroupJobs(std::vector<RunData> runs);

// Groups of the cells of an experiment, without runs, named by what its cells differ in: "batch, learning rate 0.1". `axes`
// becomes the fields, in the order of the design. Thread-safe.
std::vector<RunGroup> GroupCells(const normlab::v1::Experiment& experiment,
                                 std::vector<std::string>* axes);

// The group that a user means: by its name, by the name of one of its jobs, or by its number, counted from 0 as the cells of
// an experiment are. INVALID_ARGUMENT names the nearest name, or all of them. Thread-safe.
absl::StatusOr<size_t> FindGroup(const std::vector<RunGroup>& groups, const std::string& wanted);

struct RunReportOptions {
  std::vector<std::string>
      series;  // names or patterns with '*' of what to draw; empty: all that is not of single layers
  std::optional<size_t> baseline;  // index of the group that differences are taken to
  double confidence = 0.95;
  std::string command;  // that makes the report again
  absl::Time time;
};

// The report: curves with a band over seeds, what is known of layers and of the loss around the weights, final values with
// intervals, differences to the baseline, every job, its spec. What failed, diverged or is not over is in the warnings, has
// curves of its own, and is in no mean. Never fails: a job without any metric is a line of a table. Thread-safe.
Report MakeRunReport(const RunSet& set, const RunReportOptions& options);

// OK, or INVALID_ARGUMENT: a name or pattern in `wanted` fits no series of any job, with the nearest one there is. While no
// job has written anything, all may come yet. Thread-safe.
absl::Status CheckSeries(const RunSet& set, const std::vector<std::string>& wanted);

// Parts of it ------------------------------------------------------------------------------------------------------------

// "Training loss" of train/loss, "test accuracy" and so on; other names as they are.
std::string SeriesTitle(const std::string& series);
// Sections in their order; empty ones are left out by the caller.
Section CurveSection(const RunSet& set, const RunReportOptions& options);
Section LayerSection(const RunSet& set, const RunReportOptions& options);
Section FinalSection(const RunSet& set, const RunReportOptions& options);
Table JobTable(const RunSet& set);
std::vector<std::string> RunWarnings(const RunSet& set);
// Series whose last values are compared: the usual four, or those that were asked for, as far as any job has them.
std::vector<std::string> MainSeries(const RunSet& set, const RunReportOptions& options);

}  // namespace normlab::client::report
