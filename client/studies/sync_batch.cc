// The analysis of study `sync-batch`.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "client/studies/analysis.h"
#include "client/studies/curves.h"
#include "client/studies/measure.h"

namespace normlab::client::studies {
namespace {

constexpr char kTest[] = "test/accuracy";
constexpr char kReestimated[] = "test/accuracy_reestimated";
constexpr char kSource[] = "Wu & He 2018, section 4.1";
constexpr char kOwn[] = "this study";
// The same mathematics in another order of summation: a hundredth of the noise between seeds would
// do, but training multiplies roundings.
constexpr double kSameMargin = 0.01;

std::string NameOf(const CellRun& cell) {
  return absl::StrCat("2 ranks, ", cell.levels[1]);
}

report::Chart RanksChart(const PartRun& ranks) {
  report::DotChart chart{.x = {.title = "examples a rank"}, .y = {.title = "test accuracy"}};
  for (const CellRun& cell : ranks.cells) {
    chart.dots.push_back(Dot(cell.levels[0], cell.levels[1], Over(cell, FinalAccuracy(kTest))));
    chart.dots.push_back(Dot(cell.levels[0], absl::StrCat(cell.levels[1], ", estimated anew"),
                             Over(cell, FinalAccuracy(kReestimated))));
  }
  return {.id = "sync-batch-ranks",
          .title = "Two ranks: accuracy against the share",
          .caption =
              "Test accuracy with running statistics and with ones estimated anew, mean with "
              "95% interval over seeds, single seeds drawn small. A batch is two shares.",
          .body = std::move(chart)};
}

report::Chart SharesChart(const PartRun& shares) {
  report::DotChart chart{.x = {.title = "examples whose statistics are taken together"},
                         .y = {.title = "test accuracy"}};
  for (const CellRun& cell : shares.cells) {
    chart.dots.push_back(
        Dot(cell.levels[0], "running statistics", Over(cell, FinalAccuracy(kTest))));
    if (cell.levels[0].find("layer") == std::string::npos) {
      chart.dots.push_back(
          Dot(cell.levels[0], "estimated anew", Over(cell, FinalAccuracy(kReestimated))));
    }
  }
  return {.id = "sync-batch-shares",
          .title = "Batches of 64: accuracy against the part that statistics are of",
          .caption =
              "As above. Statistics of s of 64 examples are those of 64/s processes that do "
              "not synchronize.",
          .body = std::move(chart)};
}

report::Table AccuracyTable(const Run& run) {
  report::Table table{.id = "sync-batch-table",
                      .title = "Test accuracy",
                      .columns = SummaryColumns({"part", "share", "statistics"}, "test accuracy")};
  for (const PartRun& part : run.parts) {
    for (const CellRun& cell : part.cells) {
      std::vector<report::Table::Value> row = {part.name, cell.levels[0],
                                               cell.levels.size() > 1 ? cell.levels[1] : "local"};
      for (report::Table::Value& value : SummaryCells(Over(cell, FinalAccuracy(kTest)))) {
        row.push_back(std::move(value));
      }
      table.rows.push_back(std::move(row));
    }
  }
  return table;
}

report::Chart LossCurves(const PartRun& ranks) {
  report::LineChart chart{.x = {.title = "step"}, .y = {.title = "training loss"}};
  for (const CellRun& cell : ranks.cells) {
    AddCurves(cell, "train/loss", NameOf(cell), chart,
              absl::StrCat(cell.levels[0], " examples a rank"), 60);
  }
  return {.id = "sync-batch-loss",
          .title = "Training loss on two ranks",
          .caption = kCurvesCaption,
          .body = std::move(chart)};
}

}  // namespace

void AnalyzeSyncBatch(const Run& run, report::Report& report) {
  const PartRun& ranks = run.Get("ranks");
  const PartRun& shares = run.Get("shares");
  const Measure accuracy = FinalAccuracy(kTest);
  const CellRun& local_2 = ranks.Cell({"2", "local"});
  const CellRun& local_4 = ranks.Cell({"4", "local"});
  const CellRun& local_32 = ranks.Cell({"32", "local"});
  const CellRun& synchronized_2 = ranks.Cell({"2", "synchronized"});
  const CellRun& synchronized_4 = ranks.Cell({"4", "synchronized"});
  const CellRun& synchronized_32 = ranks.Cell({"32", "synchronized"});
  const CellRun& shares_of_32 = shares.Cell({"32"});
  Verdicts verdicts;
  verdicts.Above({.id = "share-of-4",
                  .statement = "With 4 examples a rank, statistics of each rank's share lose "
                               "accuracy against synchronized ones.",
                  .source = kOwn,
                  .quantity = "test accuracy at 4 examples a rank, synchronized minus local"},
                 Difference(synchronized_4, local_4, accuracy), 0, 0.1);
  verdicts.Above({.id = "small-shares",
                  .statement = "Of a batch of 64, statistics of shares of 4 lose accuracy against "
                               "those of shares of 32.",
                  .source = kSource,
                  .quantity = "test accuracy at a batch of 64, shares of 32 minus shares of 4",
                  .paper = "0.037 (error 23.6% and 27.3%, ResNet-50 on ImageNet)"},
                 Difference(shares_of_32, shares.Cell({"4"}), accuracy), 0, 0.1);
  // Two values normalize to -1 and +1: the nets cannot train whatever statistics are good for, and a
  // convolution, whose channels have more values, would not do the same. So nobody's claim.
  verdicts.Above(
      {.id = "degenerate-share-of-2",
       .statement = "Degenerate case: with 2 examples a rank, whose statistics pass no "
                    "gradient, local statistics lose accuracy against synchronized ones.",
       .source = kOwn,
       .quantity = "test accuracy at 2 examples a rank, synchronized minus local"},
      Difference(synchronized_2, local_2, accuracy), 0, 0.1);
  verdicts.Above(
      {.id = "degenerate-small-shares",
       .statement = "Degenerate case: of a batch of 64, statistics of shares of 2, which "
                    "pass no gradient, lose accuracy against those of shares of 32.",
       .source = kOwn,
       .quantity = "test accuracy at a batch of 64, shares of 32 minus shares of 2"},
      Difference(shares_of_32, shares.Cell({"2"}), accuracy), 0, 0.1);
  verdicts.Equivalent({.id = "share-of-32",
                       .statement = "With 32 examples a rank, local and synchronized statistics "
                                    "are comparable, within 2 points.",
                       .source = kOwn,
                       .quantity = "test accuracy at 32 examples a rank, synchronized minus local"},
                      Difference(synchronized_32, local_32, accuracy), kAccuracyMargin);
  verdicts.Above(
      {.id = "statistics",
       .statement = "Part of what local statistics lose at 2 examples a rank comes from their "
                    "running statistics alone.",
       .source = kOwn,
       .quantity = "test accuracy of local statistics at 2 examples a rank, with statistics "
                   "estimated anew minus with running ones"},
      Combine(Over(local_2, FinalAccuracy(kReestimated)), Over(local_2, accuracy), Minus), 0, 0.1);
  verdicts.Equivalent(
      {.id = "ranks-are-ghosts",
       .statement = "Two ranks with statistics of their own give the net that one "
                    "process with ghost batches gives.",
       .source = kOwn,
       .quantity = "test accuracy at a batch of 64, two ranks with local statistics "
                   "minus ghost batches of 32"},
      Difference(local_32, shares_of_32, accuracy), kSameMargin);
  verdicts.Equivalent({.id = "synchronized-is-one",
                       .statement = "Two synchronized ranks give the net of one process.",
                       .source = kOwn,
                       .quantity = "test accuracy at a batch of 64, two synchronized ranks minus "
                                   "batch norm on one process"},
                      Difference(synchronized_32, shares.Cell({"64"}), accuracy), kSameMargin);
  report.claims = verdicts.Judge();
  report.sections.push_back({.title = "Accuracy",
                             .text = "",
                             .charts = {RanksChart(ranks), SharesChart(shares)},
                             .tables = {AccuracyTable(run)}});
  report.sections.push_back({.title = "Training", .text = "", .charts = {LossCurves(ranks)}});
}

}  // namespace normlab::client::studies
