#pragma once

#include <string>
#include <vector>

#include "client/report/runs.h"

namespace normlab::client::report {

// The curve of one series of one group: the mean over the jobs that succeeded (a band from the lowest to the highest when
// there are several), then one line for each other job, called so. A series with a value at every step is drawn as means
// over windows of `window` steps (0: as it is). Thread-safe.
std::vector<Line> CurvesOf(const RunGroup& group, const std::string& series, double window);

// The width of windows that turns the longest of these series into about 120 points; 0 when they are short enough to be
// drawn as they are.
double ChooseWindow(const RunSet& set, const std::string& series);

// Logarithmic where all values are positive and range over more than a factor of 30.
Scale ChooseScale(const std::vector<Line>& lines);

// Names of all series of all jobs: the usual four first, then in the order of the alphabet.
std::vector<std::string> AllSeries(const RunSet& set);

// Whether `options` ask for a series; by default all but those of single layers and points, the learning rate and whatever
// only differs by a factor or belongs to another chart.
bool IsWanted(const std::string& series, const RunReportOptions& options);

// "succeeded", "diverged at step 19", "still runs, at step 120 of 600".
std::string StateText(const normlab::v1::Job& job);

}  // namespace normlab::client::report
