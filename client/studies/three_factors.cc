// The analysis of study `three-factors`.
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
constexpr Factor kFactors[] = {
    {"lipschitz", "gradient Lipschitz constant L", "landscape/smoothness"},
    {"moment", "E||g||^2", "gradient_noise/second_moment"},
    {"variance", "Var g", "gradient_noise/variance"}};

// log10 of no normalization over batch norm: above 0 where batch norm makes the factor smaller.
Sample Reduction(const PartRun& part, const std::string& activation, const Factor& factor) {
  return Difference(
      part.Cell({activation, "none"}), part.Cell({activation, kBatchNorm}),
      [&factor](const SeedRun& seed) { return MeanLog10(seed, factor.series); }, factor.name);
}

std::vector<Sample> Reductions(const PartRun& part, const std::string& activation, double sign) {
  std::vector<Sample> samples;
  for (const Factor& factor : kFactors) {
    samples.push_back(Reduction(part, activation, factor));
    for (double& value : samples.back().values) {
      value *= sign;
    }
  }
  return samples;
}

report::Chart DotsOf(const PartRun& part, const Factor& factor) {
  report::DotChart chart{.x = {.title = "activation"},
                         .y = {.title = absl::StrCat("log10 of ", factor.name)}};
  for (const CellRun& cell : part.cells) {
    chart.dots.push_back(
        Dot(cell.levels[0], cell.levels[1],
            Over(cell, [&factor](const SeedRun& seed) { return MeanLog10(seed, factor.series); })));
  }
  return {.id = absl::StrCat("factors-", factor.id),
          .title = absl::StrCat(factor.name, " per activation"),
          .caption =
              "Mean over the probed steps of the logarithm; mean with 95% interval over seeds, "
              "single seeds drawn small.",
          .body = std::move(chart)};
}

report::Chart CurvesOf(const PartRun& part, const Factor& factor) {
  report::LineChart chart{.x = {.title = "step"},
                          .y = {.title = factor.name, .scale = report::Scale::kLogarithmic}};
  for (const CellRun& cell : part.cells) {
    chart.lines.push_back(Curve(cell, factor.series, cell.levels[1]));
    chart.facets.push_back(cell.levels[0]);
  }
  return {.id = absl::StrCat("factors-time-", factor.id),
          .title = absl::StrCat(factor.name, " over training"),
          .caption = "Mean over seeds, band from the smallest to the largest.",
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
               "log10 of no normalization over batch norm, of the factor where it is least certain",
           .paper = "all three are smaller"},
          Reductions(nets, activation, 1), 0, 0.3);
    } else {
      verdicts.SomeAbove(
          {.id = absl::AsciiStrToLower(activation),
           .statement =
               absl::StrCat("With ", activation,
                            " batch norm does not make all three smaller: at least one is larger."),
           .source = kSource,
           .quantity = "log10 of batch norm over no normalization, of the factor where it is "
                       "surest to be larger",
           .paper = "not all three are smaller"},
          Reductions(nets, activation, -1), 0, 0.3);
    }
  }
  report.claims = verdicts.Judge();
  report::Table table{
      .id = "factors-ratios",
      .title = "How much smaller batch norm makes each factor (log10; negative: larger)",
      .columns = SummaryColumns({"activation", "factor"}, "log10 of none over batch norm")};
  for (const std::string& activation : nets.LevelsOf("activation")) {
    for (const Factor& factor : kFactors) {
      std::vector<report::Table::Value> row = {activation, std::string(factor.name)};
      for (report::Table::Value& value : SummaryCells(Reduction(nets, activation, factor))) {
        row.push_back(std::move(value));
      }
      table.rows.push_back(std::move(row));
    }
  }
  std::vector<report::Chart> charts;
  for (const Factor& factor : kFactors) {
    charts.push_back(DotsOf(nets, factor));
  }
  report.sections.push_back({.title = "The three factors",
                             .text = "The paper's theorems could not be read; only its abstract is "
                                     "public. L, E||g||^2 and Var g are "
                                     "measured along the runs of the same learning rate.",
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
