#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "client/report/report.h"
#include "client/studies/measure.h"
#include "client/studies/run.h"
#include "client/studies/verdict.h"

namespace normlab::client::studies {

// What a study's run says: its claims with verdicts, charts, tables, specs and how to repeat it. Jobs that failed, diverged or
// still run are named in the warnings, and what rests on them is inconclusive. `run` fits its plan, which is of a study there
// is. Thread-safe.
report::Report MakeReport(const Run& run);

// One report of several studies: all claims first, then the sections of each. The runs are only read. Thread-safe.
report::Report MakeOverview(absl::Span<const Run* const> runs);

// The analyses, one a study: each adds its claims and sections.
void AnalyzeAffine(const Run& run, report::Report& report);
void AnalyzeThreeModes(const Run& run, report::Report& report);
void AnalyzeCovariateShift(const Run& run, report::Report& report);
void AnalyzeLandscape(const Run& run, report::Report& report);
void AnalyzeExplosion(const Run& run, report::Report& report);
void AnalyzeLearningRate(const Run& run, report::Report& report);
void AnalyzeThreeFactors(const Run& run, report::Report& report);
void AnalyzeNormalizers(const Run& run, report::Report& report);
void AnalyzeSyncBatch(const Run& run, report::Report& report);

// Why claims about a classifier's standard net cannot be judged, if so: one of its seeds with a result never reached a mean
// training loss below 2.0. A stuck net looks perfectly smooth.
std::optional<std::string> StuckOnPlateau(const CellRun& standard);
// The same of both nets of a comparison. One that diverges on the plateau is no obstacle for `other`: it counts as the worst.
std::optional<std::string> StuckOnPlateau(const CellRun& standard,
                                          const CellRun& other,
                                          absl::string_view other_name);
// The same of a regression: the loss did not fall to half of its first value.
std::optional<std::string> LossDidNotFall(const CellRun& standard);

// The mean training loss of 20 steps that a net on the plateau does not get below.
inline constexpr double kPlateauLoss = 2.0;
// How claims about a pair of classifiers begin their rule.
inline constexpr char kPlateauRule[] =
    "Of each seed from the first step on at which both nets have left the plateau (mean training "
    "loss of 20 steps below 2.0); "
    "judged only if the standard net does.";
inline constexpr char kFallRule[] =
    "Judged only if the training loss of the standard net falls by half.";

// From which step on the seeds of a part are judged, and whether they are.
struct Judged {
  Starts starts;
  const char* rule;
  std::optional<std::string> obstacle;
};
// Of classifiers: once the standard net and the one with batch norm have both left the plateau.
Judged JudgedOffPlateau(const PartRun& part);
// Of regressions: all of it, if the standard net's loss falls.
Judged JudgedIfItFalls(const PartRun& part);

// Names that several studies use.
inline constexpr absl::string_view kStandard = "standard";
inline constexpr absl::string_view kBatchNorm = "batch norm";

}  // namespace normlab::client::studies
