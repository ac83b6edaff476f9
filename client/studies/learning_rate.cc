// The analysis of study `learning-rate`.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "client/studies/analysis.h"
#include "client/studies/measure.h"

namespace normlab::client::studies {
namespace {

constexpr double kTrains = 0.5;
constexpr int kLastSteps = 20;
constexpr double kChance = 0.1;

Measure TrainAccuracy() {
  return RecentMean("train/accuracy", kLastSteps, kChance);
}

double Number(const std::string& text) {
  double value = 0;
  return absl::SimpleAtod(text, &value) ? value : std::nan("");
}

// Counts of one sample lie on whole numbers; see Sample::grid_step.
const double kCountStep = 1 / std::sqrt(2.0);
// The scale at which learning rates are compared.
constexpr char kPlainScale[] = "1";

// Per seed, over the cells of one normalizer that `counts` accepts: NaN while one of them has no result. The others are not
// looked at.
template <typename Counts, typename Combine>
Sample OverCells(const PartRun& part,
                 absl::string_view normalizer,
                 double start,
                 const Counts& counts,
                 const Combine& combine) {
  Sample sample;
  for (const CellRun& cell : part.cells) {
    if (cell.levels[0] != normalizer || !counts(cell)) {
      continue;
    }
    sample.values.resize(cell.seeds.size(), start);
    for (size_t s = 0; s < cell.seeds.size(); ++s) {
      const double accuracy = ValueOf(cell.seeds[s], TrainAccuracy());
      sample.values[s] =
          std::isnan(accuracy) ? accuracy : combine(sample.values[s], cell, accuracy >= kTrains);
      sample.jobs.insert(&cell.seeds[s]);
    }
  }
  return sample;
}

// Cells that train.
Sample Count(const PartRun& part, absl::string_view normalizer) {
  Sample sample = OverCells(
      part, normalizer, 0, [](const CellRun&) { return true; },
      [](double count, const CellRun&, bool trains) { return count + (trains ? 1 : 0); });
  sample.grid_step = kCountStep;
  return sample;
}

// The widest step between neighbouring rates. [decades]
double RateStep(const PartRun& part) {
  std::vector<double> rates;
  for (const std::string& rate : part.LevelsOf("rate")) {
    rates.push_back(std::log10(Number(rate)));
  }
  std::sort(rates.begin(), rates.end());
  double widest = 0;
  for (size_t i = 1; i < rates.size(); ++i) {
    widest = std::max(widest, rates[i] - rates[i - 1]);
  }
  return widest;
}

// log10 of the largest learning rate that trains at scale 1; where none does, a tenth of the smallest rate.
Sample LargestRate(const PartRun& part, absl::string_view normalizer) {
  double smallest = std::numeric_limits<double>::infinity();
  for (const std::string& rate : part.LevelsOf("rate")) {
    smallest = std::min(smallest, Number(rate));
  }
  Sample sample = OverCells(
      part, normalizer, std::log10(smallest / 10),
      [](const CellRun& cell) { return cell.levels[1] == kPlainScale; },
      [](double best, const CellRun& cell, bool trains) {
        return trains ? std::max(best, std::log10(Number(cell.levels[2]))) : best;
      });
  sample.grid_step = RateStep(part) * kCountStep;
  return sample;
}

// Number of initial scales that train at the rate that trains at the most scales.
Sample Scales(const PartRun& part, absl::string_view normalizer) {
  Sample best;
  for (const std::string& rate : part.LevelsOf("rate")) {
    const Sample at_rate = OverCells(
        part, normalizer, 0, [&rate](const CellRun& cell) { return cell.levels[2] == rate; },
        [](double count, const CellRun&, bool trains) { return count + (trains ? 1 : 0); });
    if (best.values.empty()) {
      best.values = at_rate.values;
    }
    best.jobs.insert(at_rate.jobs.begin(), at_rate.jobs.end());
    for (size_t s = 0; s < best.values.size(); ++s) {
      best.values[s] = std::isnan(at_rate.values[s]) ? at_rate.values[s]
                       : std::isnan(best.values[s])  ? best.values[s]
                                                     : std::max(best.values[s], at_rate.values[s]);
    }
  }
  best.grid_step = kCountStep;
  return best;
}

report::Chart Heat(const PartRun& part, const std::string& normalizer) {
  report::HeatMap map{.x = {.title = "learning rate"},
                      .y = {.title = "initial scale of the hidden layers"},
                      .columns = part.LevelsOf("rate"),
                      .rows = part.LevelsOf("scale"),
                      .value_title = "training accuracy"};
  for (const std::string& scale : map.rows) {
    for (const std::string& rate : map.columns) {
      const CellRun& cell = part.Cell({normalizer, scale, rate});
      const Sample sample = Over(cell, TrainAccuracy());
      const double mean = std::get<double>(SummaryCells(sample)[0]);
      map.values.push_back(mean);
      map.texts.push_back(std::isnan(mean) ? std::string("-")
                          : sample.diverged() > 0
                              ? absl::StrFormat("%.2f (%d diverged)", mean, sample.diverged())
                              : absl::StrFormat("%.2f", mean));
    }
  }
  return {.id = absl::StrCat("rates-", normalizer == "none" ? "none" : "batch-norm"),
          .title = absl::StrCat("Which cells train: ",
                                normalizer == "none" ? "without normalization" : normalizer),
          .caption =
              "Training accuracy of the last 20 steps, mean over seeds; a diverged net counts as "
              "0.10. A cell trains from 0.50 on.",
          .body = std::move(map)};
}

}  // namespace

void AnalyzeLearningRate(const Run& run, report::Report& report) {
  const PartRun& grid = run.Get("grid");
  constexpr absl::string_view kNone = "none";
  Verdicts verdicts;
  verdicts.Above(
      {.id = "cells",
       .statement = "With batch norm more combinations of learning rate and initial scale train.",
       .source = "Ioffe & Szegedy 2015, sections 3.3 and 4.2",
       .quantity = "number of cells that train, batch norm minus none"},
      Combine(Count(grid, kBatchNorm), Count(grid, kNone), Minus), 0, 3);
  verdicts.Above({.id = "rate",
                  .statement = "With batch norm larger learning rates train.",
                  .source = "Ioffe & Szegedy 2015, section 4.2",
                  .quantity = "largest learning rate that trains at scale 1, batch norm over none",
                  .paper = "30 times on Inception; 5 times overflows without",
                  .shown = Shown::kTimes},
                 Combine(LargestRate(grid, kBatchNorm), LargestRate(grid, kNone), Minus), 0, 0.9);
  verdicts.Above(
      {.id = "scale",
       .statement = "With batch norm training tolerates more initial scales.",
       .source = "Ioffe & Szegedy 2015, section 3.3",
       .quantity =
           "number of scales that train at the most tolerant learning rate, batch norm minus none"},
      Combine(Scales(grid, kBatchNorm), Scales(grid, kNone), Minus), 0, 1);
  report.claims = verdicts.Judge();
  report::Table table{.id = "rates-counts",
                      .title = "Per normalizer",
                      .columns = SummaryColumns({"normalizer", "quantity"}, "mean over seeds")};
  for (const std::string& normalizer : grid.LevelsOf("normalizer")) {
    struct Row {
      const char* name;
      Sample sample;
      bool logarithms;
    };
    for (const auto& [name, sample, logarithms] :
         {Row{"cells that train", Count(grid, normalizer), false},
          Row{"largest rate that trains at scale 1 (geometric mean)", LargestRate(grid, normalizer),
              true},
          Row{"scales that train at the most tolerant rate", Scales(grid, normalizer), false}}) {
      std::vector<report::Table::Value> row = {normalizer, std::string(name)};
      for (report::Table::Value& value : SummaryCells(sample, logarithms)) {
        row.push_back(std::move(value));
      }
      table.rows.push_back(std::move(row));
    }
  }
  report.sections.push_back({.title = "The grid",
                             .text = "",
                             .charts = {Heat(grid, "none"), Heat(grid, std::string(kBatchNorm))},
                             .tables = {std::move(table)}});
}

}  // namespace normlab::client::studies
