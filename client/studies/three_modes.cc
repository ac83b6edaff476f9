// The analysis of study `three-modes`.
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "client/studies/analysis.h"
#include "client/studies/measure.h"

namespace normlab::client::studies {
namespace {

constexpr absl::string_view kNoisy = "noisy batch norm";
constexpr absl::string_view kNoise = "noise alone";
constexpr int kLastSteps = 50;
// Of the 10 classes.
constexpr double kChance = 0.1;

constexpr char kReestimated[] = "test/accuracy_reestimated";

// The mean over layers and the judged steps of the activation shift. Diverged: infinite.
Sample MeanShifts(const CellRun& cell, const Starts& starts) {
  const std::vector<std::string> layers = LayersWith(cell, "activation_shift");
  const auto mean = [&](const SeedRun& seed) {
    double sum = 0;
    int counted = 0;
    for (const std::string& layer : layers) {
      const double shift =
          Mean(seed, LayerSeries(layer, "activation_shift"), StartOf(starts, seed));
      if (std::isfinite(shift)) {
        sum += shift;
        ++counted;
      }
    }
    return counted > 0 ? sum / counted : std::nan("");
  };
  return Over(cell, {mean, std::numeric_limits<double>::infinity()});
}

Measure TestAccuracy() {
  return FinalAccuracy("test/accuracy", kChance);
}

Measure TrainAccuracy() {
  return RecentMean("train/accuracy", kLastSteps, kChance);
}

report::Chart ShiftChart(const PartRun& part, const Starts& starts) {
  report::LineChart chart{.x = {.title = "step"},
                          .y = {.title = "activation shift", .scale = report::Scale::kLogarithmic}};
  // By their place: with a normalizer between them layers have other names.
  const size_t count = LayersWith(part.cells.front(), "activation_shift").size();
  for (size_t i = 0; i < count; ++i) {
    for (const CellRun& cell : part.cells) {
      const std::vector<std::string> layers = LayersWith(cell, "activation_shift");
      if (i < layers.size()) {
        AddCurves(cell, LayerSeries(layers[i], "activation_shift"), cell.Name(), chart,
                  absl::StrCat("layer ", i + 1));
      }
    }
  }
  AddStarts(starts, chart);
  return {.id = "modes-shift",
          .title = "How far the inputs of the nonlinearities move in a step",
          .caption = absl::StrCat(
              "Mean over channels of the distance of (mean, deviation) between a step and the next "
              "one, on one fixed batch, with the noise of those steps. ",
              kCurvesCaption, StartsCaption(starts)),
          .body = std::move(chart)};
}

report::Table AccuracyTable(const PartRun& part, const Starts& starts) {
  report::Table table{
      .id = "modes-accuracy",
      .title = "Accuracy and shift",
      .columns = {"mode", "train accuracy", "test accuracy", "95% interval of the test accuracy",
                  "seeds", "diverged", "test accuracy, statistics estimated anew",
                  "activation shift in the judged steps"}};
  for (const CellRun& cell : part.cells) {
    std::vector<report::Table::Value> row = {cell.Name(),
                                             SummaryCells(Over(cell, TrainAccuracy()))[0]};
    for (report::Table::Value& value : SummaryCells(Over(cell, TestAccuracy()))) {
      row.push_back(std::move(value));
    }
    row.push_back(SummaryCells(Over(cell, FinalAccuracy(kReestimated, kChance)))[0]);
    row.push_back(SummaryCells(MeanShifts(cell, starts))[0]);
    table.rows.push_back(std::move(row));
  }
  return table;
}

}  // namespace

void AnalyzeThreeModes(const Run& run, report::Report& report) {
  const PartRun& part = run.Get("vgg");
  const CellRun& standard = part.Cell({kStandard});
  const CellRun& batch = part.Cell({kBatchNorm});
  const CellRun& noisy = part.Cell({kNoisy});
  const CellRun& noise = part.Cell({kNoise});
  const std::vector<ClaimText> texts = {
      {.id = "shift",
       .statement = "The inputs of the nonlinearities shift more with noisy batch norm than in the "
                    "standard net.",
       .source = "Santurkar et al. 2018, section 2.1, figure 2",
       .quantity = "mean activation shift, noisy batch norm over standard",
       .shown = Shown::kTimes},
      {.id = "better",
       .statement = "The net with noisy batch norm still trains better than the standard net.",
       .source = "Santurkar et al. 2018, section 2.1",
       .quantity = "training accuracy of the last 50 steps, noisy batch norm minus standard"},
      {.id = "comparable",
       .statement = "Noise behind batch norm costs next to no training accuracy: within 2 points "
                    "of batch norm.",
       .source = "Santurkar et al. 2018, section 2.1, figure 2",
       .quantity = "training accuracy of the last 50 steps, noisy batch norm minus batch norm"},
      {.id = "comparable-test",
       .statement = "Nor test accuracy, without the noise and with running statistics: within 2 "
                    "points of batch norm.",
       .source = "this study",
       .quantity = "test accuracy, noisy batch norm minus batch norm"},
      {.id = "batch-norm",
       .statement = "Batch norm gives a more accurate net than none.",
       .source = "Santurkar et al. 2018, figure 1",
       .quantity = "test accuracy, batch norm minus standard",
       .paper = "0.03 (0.83 and 0.80 on CIFAR-10 after 15,000 steps)"},
      {.id = "control",
       .statement = "The same noise without batch norm makes the standard net worse: what helps is "
                    "batch norm, not the noise.",
       .source = "Santurkar et al. 2018, section 2.1",
       .quantity = "test accuracy, standard minus noise alone"},
      {.id = "statistics",
       .statement = "What noisy batch norm loses in testing is not that its running statistics lag "
                    "behind the weights: estimated anew they are as good, within 2 points.",
       .source = "this study",
       .quantity =
           "test accuracy of noisy batch norm, with statistics estimated anew for the final "
           "weights (in training mode, with its noise) minus with running ones"}};
  const Starts starts = BothLeftPlateau(standard, noisy, kPlateauLoss);
  const std::optional<std::string> stuck = StuckOnPlateau(standard);
  Verdicts verdicts;
  verdicts.Precondition(kPlateauRule, StuckOnPlateau(standard, noisy, kNoisy));
  verdicts.Above(texts[0],
                 Combine(MeanShifts(noisy, starts), MeanShifts(standard, starts), LogRatio), 0, 1);
  verdicts.Precondition(
      "Judged only if the standard net leaves the plateau (mean training loss of "
      "20 steps below 2.0).",
      stuck);
  verdicts.Above(texts[1], Difference(noisy, standard, TrainAccuracy()), 0);
  verdicts.Equivalent(texts[2], Difference(noisy, batch, TrainAccuracy()), kAccuracyMargin);
  verdicts.Equivalent(texts[3], Difference(noisy, batch, TestAccuracy()), kAccuracyMargin);
  verdicts.Above(texts[4], Difference(batch, standard, TestAccuracy()), 0);
  verdicts.Above(texts[5], Difference(standard, noise, TestAccuracy()), 0, 0.2);
  verdicts.Equivalent(texts[6],
                      Combine(Over(noisy, FinalAccuracy(kReestimated, kChance)),
                              Over(noisy, TestAccuracy()), Minus),
                      kAccuracyMargin);
  report.claims = verdicts.Judge();
  report.sections.push_back({.title = "Training",
                             .text = "",
                             .charts = TrainingCurves(part),
                             .tables = {AccuracyTable(part, starts)}});
  report::LineChart spread{.x = {.title = "step"},
                           .y = {.title = "variance", .scale = report::Scale::kLogarithmic}};
  for (const CellRun& cell : part.cells) {
    const std::string quantity =
        LayersWith(cell, "post_variance").empty() ? "pre_variance" : "post_variance";
    for (const std::string& layer : LayersWith(cell, quantity)) {
      AddCurves(cell, LayerSeries(layer, quantity), layer, spread, cell.Name());
    }
  }
  report.sections.push_back(
      {.title = "The distributions inside",
       .text = "",
       .charts = {
           ShiftChart(part, starts),
           {.id = "modes-variance",
            .title = "Variance at the inputs of the nonlinearities",
            .caption = absl::StrCat("Of each layer's output behind its normalizer, if it has one. ",
                                    kCurvesCaption),
            .body = std::move(spread)}}});
}

}  // namespace normlab::client::studies
