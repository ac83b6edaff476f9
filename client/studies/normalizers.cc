// The analysis of study `normalizers`.
#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "client/studies/analysis.h"
#include "client/studies/measure.h"

namespace normlab::client::studies {
namespace {

constexpr char kTest[] = "test/accuracy";
constexpr char kReestimated[] = "test/accuracy_reestimated";
constexpr char kSource[] = "Wu & He 2018, table 2";

double TestAccuracy(const SeedRun& seed) {
  return FinalAccuracy(seed, kTest);
}

double Reestimated(const SeedRun& seed) {
  return FinalAccuracy(seed, kReestimated);
}

report::Chart AccuracyChart(const PartRun& nets) {
  report::DotChart chart{.x = {.title = "examples a batch"}, .y = {.title = "test accuracy"}};
  for (const CellRun& cell : nets.cells) {
    chart.dots.push_back(Dot(cell.levels[1], cell.levels[0], Over(cell, TestAccuracy)));
    if (cell.levels[0] == "batch") {
      chart.dots.push_back(
          Dot(cell.levels[1], "batch, statistics estimated anew", Over(cell, Reestimated)));
    }
  }
  return {.id = "normalizers-accuracy",
          .title = "Accuracy against batch size",
          .caption =
              "Test accuracy, mean with 95% interval over seeds, single seeds drawn small. Every "
              "net saw the same number of examples.",
          .body = std::move(chart)};
}

report::Table AccuracyTable(const PartRun& nets) {
  report::Table table{
      .id = "normalizers-table",
      .title = "Test accuracy",
      .columns = SummaryColumns({"normalizer", "batch", "statistics"}, "test accuracy")};
  for (const CellRun& cell : nets.cells) {
    for (const bool anew : {false, true}) {
      if (anew && cell.levels[0] != "batch") {
        continue;
      }
      std::vector<report::Table::Value> row = {cell.levels[0], cell.levels[1],
                                               std::string(cell.levels[0] != "batch" ? "none"
                                                           : anew ? "estimated anew"
                                                                  : "running")};
      for (report::Table::Value& value :
           SummaryCells(Over(cell, anew ? Measure(Reestimated) : Measure(TestAccuracy)))) {
        row.push_back(std::move(value));
      }
      table.rows.push_back(std::move(row));
    }
  }
  return table;
}

report::Chart LossCurves(const PartRun& nets) {
  report::LineChart chart{.x = {.title = "step"}, .y = {.title = "training loss"}};
  for (const CellRun& cell : nets.cells) {
    chart.lines.push_back(Curve(cell, "train/loss", cell.levels[0], 60));
    chart.facets.push_back(absl::StrCat("batch ", cell.levels[1]));
  }
  return {.id = "normalizers-loss",
          .title = "Training loss",
          .caption = "Mean over seeds, band from the smallest to the largest.",
          .body = std::move(chart)};
}

}  // namespace

void AnalyzeNormalizers(const Run& run, report::Report& report) {
  const PartRun& nets = run.Get("nets");
  const CellRun& batch_2 = nets.Cell({"batch", "2"});
  const CellRun& batch_32 = nets.Cell({"batch", "32"});
  const CellRun& group_2 = nets.Cell({"group", "2"});
  const CellRun& group_32 = nets.Cell({"group", "32"});
  Verdicts verdicts;
  verdicts.Above({.id = "batch-norm-small",
                  .statement = "Batch norm loses accuracy at 2 examples a batch.",
                  .source = kSource,
                  .quantity = "test accuracy of batch norm, batch 32 minus batch 2",
                  .paper = "0.111 (error 23.6% and 34.7%, ResNet-50 on ImageNet)"},
                 Difference(batch_32, batch_2, TestAccuracy), 0, 0.1);
  verdicts.Equivalent(
      {.id = "group-norm-steady",
       .statement = "Group norm is as accurate at 2 examples a batch as at 32, within 2 points.",
       .source = kSource,
       .quantity = "test accuracy of group norm, batch 32 minus batch 2",
       .paper = "0.000 (error 24.1% and 24.1%)"},
      Difference(group_32, group_2, TestAccuracy), kAccuracyMargin);
  verdicts.Above({.id = "group-better-small",
                  .statement = "At 2 examples a batch group norm is more accurate than batch norm.",
                  .source = kSource,
                  .quantity = "test accuracy at batch 2, group norm minus batch norm",
                  .paper = "0.106 (error 24.1% and 34.7%)"},
                 Difference(group_2, batch_2, TestAccuracy), 0, 0.1);
  verdicts.Equivalent({.id = "comparable-32",
                       .statement = "At 32 examples a batch both are comparable, within 2 points.",
                       .source = kSource,
                       .quantity = "test accuracy at batch 32, group norm minus batch norm",
                       .paper = "-0.005 (error 24.1% and 23.6%)"},
                      Difference(group_32, batch_32, TestAccuracy), kAccuracyMargin);
  Sample gain = Over(batch_2, Reestimated);
  const Sample running = Over(batch_2, TestAccuracy);
  for (size_t i = 0; i < gain.values.size(); ++i) {
    gain.values[i] -= running.values[i];
  }
  verdicts.Above({.id = "statistics",
                  .statement = "Part of batch norm's loss at 2 examples a batch comes from its "
                               "running statistics alone.",
                  .source = "this study",
                  .quantity = "test accuracy of batch norm at batch 2, with statistics estimated "
                              "anew minus with running ones"},
                 std::move(gain), 0, 0.1);
  report.claims = verdicts.Judge();
  report.sections.push_back({.title = "Accuracy",
                             .text = "",
                             .charts = {AccuracyChart(nets)},
                             .tables = {AccuracyTable(nets)}});
  report.sections.push_back({.title = "Training", .text = "", .charts = {LossCurves(nets)}});
}

}  // namespace normlab::client::studies
