#pragma once

#include <string>

#include "client/report/report.h"

// Reports with made-up numbers, for tests of writers and of what a browser makes of them. All are deterministic.
namespace normlab::client::report {

// Claims of all three verdicts and every kind of chart: lines with bands on linear and logarithmic axes, facets, references,
// gaps, a run that explodes, few places; heat maps with and without texts and values; dots in columns and in rows.
Report SampleReport();

// A text that breaks a page whose writer forgets to escape it.
std::string HostileText();
// Every text of it is HostileText.
Report HostileReport();

// One chart of `lines` lines of `points` points with bands.
Report BigReport(int lines, int points);

}  // namespace normlab::client::report
