#pragma once

#include <functional>
#include <map>
#include <string>

#include "absl/strings/string_view.h"

#include "client/studies/analysis.h"

// Runs of studies with made-up results, and what every report keeps to; for tests of the analyses.
namespace normlab::client::studies {

// Test::Run hides the name.
using StudyRun = Run;

inline constexpr int kSteps = 300;

// A little of everything that differs between seeds: -1, -0.5, 0, 0.5, 1, ... of `size`.
double Jitter(const SeedRun& seed, double size);

// Gives the seed a point of the series every `every` steps.
void Put(SeedRun& seed,
         const std::string& series,
         const std::function<double(int step)>& value,
         int every = 50,
         int steps = kSteps);
void PutConstant(SeedRun& seed, const std::string& series, double value, int every = 50);

// A net that trains to `accuracy`.
void PutTraining(SeedRun& seed, double accuracy);

// The plan's run with every job succeeded and `fill`ed.
StudyRun MadeUp(const std::string& study,
                const std::function<void(const std::string& part, const CellRun&, SeedRun&)>& fill,
                int seeds = 5);

// The claims by id, each complete.
std::map<std::string, report::Claim> Claims(const report::Report& report);

// Fails the test where a report is not what every report is, whatever the data.
void ExpectWellFormed(const report::Report& report);

// The chart of that id, in whatever section.
const report::Chart& ChartOf(const report::Report& report, absl::string_view id);

}  // namespace normlab::client::studies
