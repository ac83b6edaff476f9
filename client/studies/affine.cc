// The analysis of study `affine`.
#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "client/studies/analysis.h"
#include "client/studies/measure.h"

namespace normlab::client::studies {
namespace {

constexpr absl::string_view kWith = "with gamma and beta";
constexpr absl::string_view kWithout = "without";
constexpr int kLastLosses = 50;
// Of the training loss of a diverged net: that of random guessing among 10 classes.
const double kChanceLoss = std::log(10.0);

// At the last probed step; NaN without the series.
double Last(const SeedRun& seed, const std::string& series) {
  const Points* points = seed.Find(series);
  return points == nullptr || points->values.empty() ? std::nan("") : points->values.back();
}

// The mean over layers of how far the variance of a feature behind gamma and beta is from 1: that variance is gamma^2, so its
// mean over the features of a layer is that of gamma squared. (The variance over all features together has beta's in it.)
double DistanceFromUnitVariance(const SeedRun& seed, const std::vector<std::string>& normalizers) {
  double sum = 0;
  for (const std::string& normalizer : normalizers) {
    const double mean = Last(seed, LayerSeries(normalizer, "gamma_mean"));
    const double deviation = Last(seed, LayerSeries(normalizer, "gamma_std"));
    sum += std::abs(mean * mean + deviation * deviation - 1);
  }
  return normalizers.empty() ? std::nan("") : sum / static_cast<double>(normalizers.size());
}

// Batch norm of four numbers, step by step; write-ups often print the variance as 1 and the output as [0, 2, 4, 6].
report::Table WorkedExample() {
  report::Table table{.id = "affine-example",
                      .title = "Four numbers through batch norm",
                      .columns = {"x", "normalized", "gamma 2, beta 3", "2x + 3 (not batch norm)",
                                  "gamma sqrt(var), beta mean: x again"}};
  const std::vector<double> x = {-1.5, -0.5, 0.5, 1.5};
  double mean = 0;
  double variance = 0;
  for (const double value : x) {
    mean += value / 4;
  }
  for (const double value : x) {
    variance += (value - mean) * (value - mean) / 4;
  }
  const double deviation = std::sqrt(variance);
  for (const double value : x) {
    const double normalized = (value - mean) / deviation;
    table.rows.push_back(
        {value, normalized, 2 * normalized + 3, 2 * value + 3, deviation * normalized + mean});
  }
  return table;
}

report::Chart VarianceChart(const PartRun& nets) {
  report::LineChart chart{.x = {.title = "step"},
                          .y = {.title = "variance of the normalized outputs"}};
  for (const CellRun& cell : nets.cells) {
    for (const std::string& layer : LayersWith(cell, "post_variance")) {
      AddCurves(cell, LayerSeries(layer, "post_variance"), cell.levels[1] + ", " + layer, chart,
                cell.levels[0]);
    }
  }
  return {.id = "affine-variance",
          .title = "What gamma and beta make of the variance",
          .caption = absl::StrCat(
              "Variance of each normalizer's output over batch and features together: the mean of "
              "gamma squared plus the variance of beta between features. Without gamma and beta it "
              "is 1 by definition. ",
              kCurvesCaption),
          .body = std::move(chart)};
}

}  // namespace

void AnalyzeAffine(const Run& run, report::Report& report) {
  const PartRun& recovery = run.Get("recovery");
  const PartRun& nets = run.Get("nets");
  Verdicts verdicts;
  verdicts.Above({.id = "recovery",
                  .statement = "With gamma and beta a normalized layer can put out a distribution "
                               "that normalization alone forbids.",
                  .source = "Ioffe & Szegedy 2015, section 3",
                  .quantity = "final test loss, without gamma and beta over with them",
                  .shown = Shown::kTimes},
                 Ratio(recovery.Cell({kWithout}), recovery.Cell({kWith}), FinalLoss("test/loss")),
                 1, 2);
  const CellRun& sigmoid_with = nets.Cell({"sigmoid", kWith});
  const CellRun& sigmoid_without = nets.Cell({"sigmoid", kWithout});
  const CellRun& relu_with = nets.Cell({"ReLU", kWith});
  const CellRun& relu_without = nets.Cell({"ReLU", kWithout});
  const std::vector<std::string> normalizers = LayersWith(sigmoid_with, "gamma_std");
  verdicts.Above(
      {.id = "used",
       .statement = "Training uses the freedom: the inputs of sigmoids leave unit variance.",
       .source = "Ioffe & Szegedy 2015, section 3",
       .quantity =
           "|variance of a feature behind gamma and beta - 1| at the end, from its mean over the "
           "features of a layer, mean over layers; a diverged net uses nothing: 0"},
      Over(sigmoid_with, {[&normalizers](const SeedRun& seed) {
                            return DistanceFromUnitVariance(seed, normalizers);
                          },
                          0}),
      0.05);
  verdicts.Above(
      {.id = "sigmoid",
       .statement =
           "A sigmoid net with gamma and beta reaches a lower training loss than one without.",
       .source = "Ioffe & Szegedy 2015, section 3 (what confinement to the linear regime implies)",
       .quantity = "training loss without minus with gamma and beta, mean of the last 50 steps"},
      Difference(sigmoid_without, sigmoid_with, RecentMean("train/loss", kLastLosses, kChanceLoss)),
      0);
  verdicts.Equivalent(
      {.id = "relu",
       .statement =
           "A ReLU net without gamma and beta is as accurate as one with them, within 2 points.",
       .source = "this study: ReLU nets do not depend on the scale of what comes before the next "
                 "normalizer",
       .quantity = "test accuracy without minus with gamma and beta"},
      Difference(relu_without, relu_with, FinalAccuracy("test/accuracy")), kAccuracyMargin);
  report.claims = verdicts.Judge();

  report::LineChart fit{.x = {.title = "step"},
                        .y = {.title = "training loss", .scale = report::Scale::kLogarithmic}};
  for (const CellRun& cell : recovery.cells) {
    AddCurves(cell, "train/loss", cell.Name(), fit);
  }
  report.sections.push_back(
      {.title = "A task that needs other variances",
       .text = "Every output of the layer is normalized; the targets have variances around 10. "
               "With gamma and beta the layer gives "
               "them back, without it can only guess the sign.",
       .charts = {{.id = "affine-recovery",
                   .title = "Fitting y = A x through a normalized output",
                   .caption = absl::StrCat("Mean squared error per output. ", kCurvesCaption),
                   .body = std::move(fit)}},
       .tables = {WorkedExample()}});
  std::vector<report::Chart> charts = {VarianceChart(nets)};
  for (report::Chart& chart : TrainingCurves(nets)) {
    charts.push_back(std::move(chart));
  }
  report::Table table{.id = "affine-accuracy",
                      .title = "Final test accuracy",
                      .columns = SummaryColumns({"activation", "gamma and beta"}, "test accuracy")};
  for (const CellRun& cell : nets.cells) {
    std::vector<report::Table::Value> row = {cell.levels[0], cell.levels[1]};
    for (report::Table::Value& value : SummaryCells(Over(cell, FinalAccuracy("test/accuracy")))) {
      row.push_back(std::move(value));
    }
    table.rows.push_back(std::move(row));
  }
  report.sections.push_back({.title = "Nets with and without gamma and beta",
                             .text = "",
                             .charts = std::move(charts),
                             .tables = {std::move(table)}});
}

}  // namespace normlab::client::studies
