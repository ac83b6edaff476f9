// The analysis of study `three-factors`.
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

#include "client/studies/analysis.h"
#include "client/studies/measure.h"

namespace normlab::client::studies {
namespace {

struct Factor {
  const char* id;
  const char* name;
  const char* series;
};
// Twice: an effect that 3 seeds may show.
constexpr double kLarge = 0.3;
constexpr Factor kFactors[] = {
    {"lipschitz", "gradient Lipschitz constant L", "landscape/smoothness"},
    {"moment", "E||g||^2", "gradient_noise/second_moment"},
    {"variance", "Var g", "gradient_noise/variance"}};

constexpr char kNone[] = "none";

Measure MeanLogOf(const Factor& factor) {
  return {[&factor](const SeedRun& seed) { return MeanLog10(seed, factor.series); },
          std::numeric_limits<double>::infinity()};
}

// log10 of no normalization over a normalizer: above 0 where the normalizer makes the factor smaller.
Sample Reduction(const PartRun& part,
                 const std::string& activation,
                 absl::string_view normalizer,
                 const Factor& factor) {
  return Combine(Over(part.Cell({activation, kNone}), MeanLogOf(factor), factor.name),
                 Over(part.Cell({activation, normalizer}), MeanLogOf(factor)), LogMinus);
}

std::vector<Sample> Reductions(const PartRun& part, const std::string& activation) {
  std::vector<Sample> samples;
  for (const Factor& factor : kFactors) {
    samples.push_back(Reduction(part, activation, kBatchNorm, factor));
  }
  return samples;
}

report::Chart DotsOf(const PartRun& part, const Factor& factor) {
  report::DotChart chart{.x = {.title = "activation"},
                         .y = {.title = absl::StrCat("log10 of ", factor.name)}};
  for (const CellRun& cell : part.cells) {
    chart.dots.push_back(Dot(cell.levels[0], cell.levels[1], Over(cell, MeanLogOf(factor))));
  }
  return {.id = absl::StrCat("factors-", factor.id),
          .title = absl::StrCat(factor.name, " per activation"),
          .caption =
              "Mean over the probed steps of the logarithm; mean with 95% interval over seeds, "
              "single seeds drawn small. A net of which a seed diverged has no mean.",
          .body = std::move(chart)};
}

report::Chart CurvesOf(const PartRun& part, const Factor& factor) {
  report::LineChart chart{.x = {.title = "step"},
                          .y = {.title = factor.name, .scale = report::Scale::kLogarithmic}};
  for (const CellRun& cell : part.cells) {
    AddCurves(cell, factor.series, cell.levels[1], chart, cell.levels[0]);
  }
  return {.id = absl::StrCat("factors-time-", factor.id),
          .title = absl::StrCat(factor.name, " over training"),
          .caption = kCurvesCaption,
          .body = std::move(chart)};
}

}  // namespace

void AnalyzeThreeFactors(const Run& run, report::Report& report) {
  const PartRun& nets = run.Get("nets");
  constexpr char kSource[] = "Peng et al. 2023 (abstract)";
  Verdicts verdicts;
  for (const std::string& activation : nets.LevelsOf("activation")) {
    if (activation == "ReLU") {
      verdicts.AllAbove(
          {.id = "relu",
           .statement = "With ReLU batch norm makes all three smaller: L, E||g||^2 and Var g.",
           .source = kSource,
           .quantity =
               "no normalization over batch norm, of the factor where it is least certain to be "
               "above 1",
           .paper = "above 1 for all three",
           .shown = Shown::kTimes},
          Reductions(nets, activation), 0, kLarge);
    } else {
      verdicts.SomeBelow(
          {.id = absl::AsciiStrToLower(activation),
           .statement =
               absl::StrCat("With ", activation,
                            " batch norm does not make all three smaller: at least one is larger."),
           .source = kSource,
           .quantity = "no normalization over batch norm, of the factor where it is surest to be "
                       "below 1",
           .paper = "not above 1 for all three",
           .shown = Shown::kTimes},
          Reductions(nets, activation), 0, -kLarge);
    }
  }
  report.claims = verdicts.Judge();
  report::Table table{
      .id = "factors-ratios",
      .title =
          "How many times as large each factor is without the normalizer (below 1: the "
          "normalizer makes it larger)",
      .columns = SummaryColumns({"activation", "normalizer", "factor"},
                                "none over normalizer (geometric mean)")};
  for (const std::string& activation : nets.LevelsOf("activation")) {
    for (const std::string& normalizer : nets.LevelsOf("normalizer")) {
      for (const Factor& factor : kFactors) {
        if (normalizer == kNone) {
          continue;
        }
        std::vector<report::Table::Value> row = {activation, normalizer, std::string(factor.name)};
        for (report::Table::Value& value :
             SummaryCells(Reduction(nets, activation, normalizer, factor), true)) {
          row.push_back(std::move(value));
        }
        table.rows.push_back(std::move(row));
      }
    }
  }
  std::vector<report::Chart> charts;
  for (const Factor& factor : kFactors) {
    charts.push_back(DotsOf(nets, factor));
  }
  report.sections.push_back({.title = "The three factors",
                             .text = "The paper's theorems could not be read; only its abstract is "
                                     "public. L, E||g||^2 and Var g are measured along the runs of "
                                     "the same learning rate. Layer norm and weight norm are "
                                     "measured, not judged: the abstract says nothing of them. "
                                     "Weight norm's gradient is that of its own parameters.",
                             .charts = std::move(charts),
                             .tables = {std::move(table)}});
  std::vector<report::Chart> over_time;
  for (const Factor& factor : kFactors) {
    over_time.push_back(CurvesOf(nets, factor));
  }
  for (report::Chart& chart : TrainingCurves(nets)) {
    over_time.push_back(std::move(chart));
  }
  report.sections.push_back({.title = "Over training", .text = "", .charts = std::move(over_time)});
}

}  // namespace normlab::client::studies
