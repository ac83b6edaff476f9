// The analysis of study `normalizers`.
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "client/studies/analysis.h"
#include "client/studies/measure.h"
#include "common/statistics.h"

namespace normlab::client::studies {
namespace {

constexpr char kTest[] = "test/accuracy";
constexpr char kReestimated[] = "test/accuracy_reestimated";
constexpr char kSource[] = "Wu & He 2018, section 4.1";

// The nets of a run: each normalizer at each batch size, with the learning rate of the batch size (part `nets`) or the best one
// of a grid (part `grid`).
struct Nets {
  const PartRun* part = nullptr;
  bool grid = false;
};

Nets NetsOf(const Run& run) {
  const PartRun* nets = run.Find("nets");
  return nets != nullptr ? Nets{nets, false} : Nets{&run.Get("grid"), true};
}

// Of a grid the rate with the highest mean test accuracy over the seeds, diverged ones counting as chance; the first one while
// there are no results.
const CellRun& BestCell(const Nets& nets, absl::string_view normalizer, absl::string_view batch) {
  if (!nets.grid) {
    return nets.part->Cell({normalizer, batch});
  }
  const CellRun* best = nullptr;
  double highest = 0;
  for (const std::string& rate : nets.part->LevelsOf("rate")) {
    const CellRun& cell = nets.part->Cell({normalizer, batch, rate});
    const double mean =
        common::DescribeSample(Over(cell, FinalAccuracy(kTest)).values).mean;  // NaN: no result
    if (best == nullptr || mean > highest) {
      best = &cell;
      highest = std::isnan(mean) ? 0 : mean;
    }
  }
  return *best;
}

// The net of each normalizer at each batch size.
std::vector<const CellRun*> BestCells(const Nets& nets) {
  std::vector<const CellRun*> cells;
  for (const std::string& normalizer : nets.part->LevelsOf("normalizer")) {
    for (const std::string& batch : nets.part->LevelsOf("batch")) {
      cells.push_back(&BestCell(nets, normalizer, batch));
    }
  }
  return cells;
}

report::Chart AccuracyChart(const Nets& nets) {
  report::DotChart chart{.x = {.title = "examples a batch"}, .y = {.title = "test accuracy"}};
  for (const CellRun* best : BestCells(nets)) {
    const CellRun& cell = *best;
    chart.dots.push_back(Dot(cell.levels[1], cell.levels[0], Over(cell, FinalAccuracy(kTest))));
    if (cell.levels[0] == "batch") {
      chart.dots.push_back(Dot(cell.levels[1], "batch, statistics estimated anew",
                               Over(cell, FinalAccuracy(kReestimated))));
    }
  }
  return {.id = "normalizers-accuracy",
          .title = "Accuracy against batch size",
          .caption =
              "Test accuracy, mean with 95% interval over seeds, single seeds drawn small. Every "
              "net saw the same number of examples.",
          .body = std::move(chart)};
}

report::Table AccuracyTable(const Nets& nets) {
  report::Table table{
      .id = "normalizers-table",
      .title = "Test accuracy",
      .columns = SummaryColumns(
          nets.grid ? std::vector<std::string>{"normalizer", "batch", "statistics", "best rate"}
                    : std::vector<std::string>{"normalizer", "batch", "statistics"},
          "test accuracy")};
  for (const CellRun* best : BestCells(nets)) {
    const CellRun& cell = *best;
    for (const bool anew : {false, true}) {
      if (anew && cell.levels[0] != "batch") {
        continue;
      }
      std::vector<report::Table::Value> row = {cell.levels[0], cell.levels[1],
                                               std::string(cell.levels[0] != "batch" ? "none"
                                                           : anew ? "estimated anew"
                                                                  : "running")};
      if (nets.grid) {
        row.emplace_back(cell.levels[2]);
      }
      for (report::Table::Value& value :
           SummaryCells(Over(cell, FinalAccuracy(anew ? kReestimated : kTest)))) {
        row.push_back(std::move(value));
      }
      table.rows.push_back(std::move(row));
    }
  }
  return table;
}

report::Chart LossCurves(const Nets& nets) {
  report::LineChart chart{.x = {.title = "step"}, .y = {.title = "training loss"}};
  for (const CellRun* best : BestCells(nets)) {
    const CellRun& cell = *best;
    AddCurves(cell, "train/loss", cell.levels[0], chart, absl::StrCat("batch ", cell.levels[1]),
              60);
  }
  return {.id = "normalizers-loss",
          .title = "Training loss",
          .caption = kCurvesCaption,
          .body = std::move(chart)};
}

}  // namespace

void AnalyzeNormalizers(const Run& run, report::Report& report) {
  const Nets nets = NetsOf(run);
  const CellRun& batch_2 = BestCell(nets, "batch", "2");
  const CellRun& batch_32 = BestCell(nets, "batch", "32");
  const CellRun& group_2 = BestCell(nets, "group", "2");
  const CellRun& group_32 = BestCell(nets, "group", "32");
  const Measure test_accuracy = FinalAccuracy(kTest);
  Verdicts verdicts;
  verdicts.Precondition(
      nets.grid ? "Each net at the learning rate of the grid with its highest mean test accuracy."
                : "",
      std::nullopt);
  verdicts.Above({.id = "batch-norm-small",
                  .statement = "Batch norm loses accuracy at 2 examples a batch.",
                  .source = kSource,
                  .quantity = "test accuracy of batch norm, batch 32 minus batch 2",
                  .paper = "0.111 (error 23.6% and 34.7%, ResNet-50 on ImageNet)"},
                 Difference(batch_32, batch_2, test_accuracy), 0, 0.1);
  verdicts.Equivalent(
      {.id = "group-norm-steady",
       .statement = "Group norm is as accurate at 2 examples a batch as at 32, within 2 points.",
       .source = kSource,
       .quantity = "test accuracy of group norm, batch 32 minus batch 2",
       .paper = "0.000 (error 24.1% and 24.1%)"},
      Difference(group_32, group_2, test_accuracy), kAccuracyMargin);
  verdicts.Above({.id = "group-better-small",
                  .statement = "At 2 examples a batch group norm is more accurate than batch norm.",
                  .source = kSource,
                  .quantity = "test accuracy at batch 2, group norm minus batch norm",
                  .paper = "0.106 (error 24.1% and 34.7%)"},
                 Difference(group_2, batch_2, test_accuracy), 0, 0.1);
  verdicts.Equivalent({.id = "comparable-32",
                       .statement = "At 32 examples a batch both are comparable, within 2 points.",
                       .source = kSource,
                       .quantity = "test accuracy at batch 32, group norm minus batch norm",
                       .paper = "-0.005 (error 24.1% and 23.6%)"},
                      Difference(group_32, batch_32, test_accuracy), kAccuracyMargin);
  verdicts.Above(
      {.id = "statistics",
       .statement = "Part of batch norm's loss at 2 examples a batch comes from its "
                    "running statistics alone.",
       .source = "this study",
       .quantity = "test accuracy of batch norm at batch 2, with statistics estimated "
                   "anew minus with running ones"},
      Combine(Over(batch_2, FinalAccuracy(kReestimated)), Over(batch_2, test_accuracy), Minus), 0,
      0.1);
  report.claims = verdicts.Judge();
  report.sections.push_back({.title = "Accuracy",
                             .text = "",
                             .charts = {AccuracyChart(nets)},
                             .tables = {AccuracyTable(nets)}});
  report.sections.push_back({.title = "Training", .text = "", .charts = {LossCurves(nets)}});
}

}  // namespace normlab::client::studies
