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

double TrainAccuracy(const SeedRun& seed) {
  return RecentMean(seed, "train/accuracy", kLastSteps, kChance);
}

double Number(const std::string& text) {
  double value = 0;
  return absl::SimpleAtod(text, &value) ? value : std::nan("");
}

// Per seed, over the cells of one normalizer that `counts` accepts: NaN while one of them has no result.
template <typename Combine>
Sample OverCells(const PartRun& part,
                 absl::string_view normalizer,
                 double start,
                 const Combine& combine) {
  Sample sample;
  for (const CellRun& cell : part.cells) {
    if (cell.levels[0] != normalizer) {
      continue;
    }
    sample.values.resize(cell.seeds.size(), start);
    for (size_t s = 0; s < cell.seeds.size(); ++s) {
      const double accuracy = TrainAccuracy(cell.seeds[s]);
      sample.values[s] =
          std::isnan(accuracy) ? accuracy : combine(sample.values[s], cell, accuracy >= kTrains);
      sample.diverged += cell.seeds[s].diverged() ? 1 : 0;
    }
  }
  return sample;
}

// Cells that train.
Sample Count(const PartRun& part, absl::string_view normalizer) {
  return OverCells(part, normalizer, 0, [](double count, const CellRun&, bool trains) {
    return count + (trains ? 1 : 0);
  });
}

// log10 of the largest learning rate that trains at scale 1; where none does, a tenth of the smallest rate.
Sample LargestRate(const PartRun& part, absl::string_view normalizer) {
  double smallest = std::numeric_limits<double>::infinity();
  for (const std::string& rate : part.LevelsOf("rate")) {
    smallest = std::min(smallest, Number(rate));
  }
  return OverCells(part, normalizer, std::log10(smallest / 10),
                   [](double best, const CellRun& cell, bool trains) {
                     return trains && cell.levels[1] == "1"
                                ? std::max(best, std::log10(Number(cell.levels[2])))
                                : best;
                   });
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

// Number of initial scales that train at the rate that trains at the most scales.
Sample Scales(const PartRun& part, absl::string_view normalizer) {
  Sample best;
  for (const std::string& rate : part.LevelsOf("rate")) {
    Sample at_rate =
        OverCells(part, normalizer, 0, [&rate](double count, const CellRun& cell, bool trains) {
          return count + (trains && cell.levels[2] == rate ? 1 : 0);
        });
    if (best.values.empty()) {
      best = at_rate;
    }
    for (size_t s = 0; s < best.values.size(); ++s) {
      best.values[s] = std::isnan(at_rate.values[s]) ? at_rate.values[s]
                                                     : std::max(best.values[s], at_rate.values[s]);
    }
  }
  return best;
}

// Both on a grid of this step.
Sample Minus(Sample a, const Sample& b, double grid_step) {
  for (size_t i = 0; i < a.values.size(); ++i) {
    a.values[i] -= b.values[i];
  }
  a.diverged += b.diverged;
  a.grid_step = grid_step;
  return a;
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
      const Sample sample = Over(cell, TrainAccuracy);
      const double mean = std::get<double>(SummaryCells(sample)[0]);
      map.values.push_back(mean);
      map.texts.push_back(std::isnan(mean) ? std::string("-")
                          : sample.diverged > 0
                              ? absl::StrFormat("%.2f (%d diverged)", mean, sample.diverged)
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
      Minus(Count(grid, kBatchNorm), Count(grid, kNone), 1), 0, 3);
  verdicts.Above(
      {.id = "rate",
       .statement = "With batch norm larger learning rates train.",
       .source = "Ioffe & Szegedy 2015, section 4.2",
       .quantity =
           "log10 of the largest learning rate that trains at scale 1, batch norm over none",
       .paper = "30 times on Inception; 5 times overflows without"},
      Minus(LargestRate(grid, kBatchNorm), LargestRate(grid, kNone), RateStep(grid)), 0, 0.9);
  verdicts.Above(
      {.id = "scale",
       .statement = "With batch norm training tolerates more initial scales.",
       .source = "Ioffe & Szegedy 2015, section 3.3",
       .quantity =
           "number of scales that train at the most tolerant learning rate, batch norm minus none"},
      Minus(Scales(grid, kBatchNorm), Scales(grid, kNone), 1), 0, 1);
  report.claims = verdicts.Judge();
  report::Table table{.id = "rates-counts",
                      .title = "Per normalizer",
                      .columns = SummaryColumns({"normalizer", "quantity"}, "mean over seeds")};
  for (const std::string& normalizer : grid.LevelsOf("normalizer")) {
    for (const auto& [name, sample] :
         {std::pair{"cells that train", Count(grid, normalizer)},
          std::pair{"log10 of the largest rate that trains at scale 1",
                    LargestRate(grid, normalizer)},
          std::pair{"scales that train at the most tolerant rate", Scales(grid, normalizer)}}) {
      std::vector<report::Table::Value> row = {normalizer, std::string(name)};
      for (report::Table::Value& value : SummaryCells(sample)) {
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
