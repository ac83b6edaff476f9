// The analysis of study `landscape`.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "client/studies/analysis.h"
#include "client/studies/curves.h"
#include "client/studies/measure.h"
#include "common/statistics.h"

namespace normlab::client::studies {
namespace {

constexpr char kLossMin[] = "landscape/loss_min";
constexpr char kLossMax[] = "landscape/loss_max";
constexpr char kPredictivenessMin[] = "landscape/predictiveness_min";
constexpr char kPredictivenessMax[] = "landscape/predictiveness_max";
constexpr char kSmoothness[] = "landscape/smoothness";
constexpr char kSource[] = "Santurkar et al. 2018, section 3.1, ";
// Ten times: an effect that 3 seeds may show.
constexpr double kLarge = 1;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The median over the judged steps of the range of the loss; an overflow along the way is an infinite range.
Measure MedianLossRange(const Starts& starts) {
  return {[&starts](const SeedRun& seed) {
            const Points* low = seed.Find(kLossMin);
            const Points* high = seed.Find(kLossMax);
            if (low == nullptr || high == nullptr) {
              return std::nan("");
            }
            std::vector<double> ranges;
            for (size_t i = 0; i < std::min(low->values.size(), high->values.size()); ++i) {
              if (low->steps[i] >= StartOf(starts, seed)) {
                ranges.push_back(std::isfinite(high->values[i]) ? high->values[i] - low->values[i]
                                                                : kInfinity);
              }
            }
            return common::Quantile(ranges, 0.5);
          },
          kInfinity};
}

Measure MedianOf(const char* series, const Starts& starts) {
  return {[series, &starts](const SeedRun& seed) {
            return Median(seed, series, StartOf(starts, seed));
          },
          kInfinity};
}

// How unsteady the smoothness is: the standard deviation of its logarithm over the judged steps.
Measure Unsteadiness(const Starts& starts) {
  return {[&starts](const SeedRun& seed) {
            const std::vector<double> logs = Log10Values(seed, kSmoothness, StartOf(starts, seed));
            const bool finite = std::all_of(logs.begin(), logs.end(),
                                            [](double value) { return std::isfinite(value); });
            const auto statistics = common::DescribeSample(logs);
            return !finite             ? kInfinity
                   : statistics.n >= 2 ? statistics.standard_deviation
                                       : std::nan("");
          },
          kInfinity};
}

// The logarithm of a measure of positive numbers.
Measure Log10Of(Measure measure) {
  return {[of = std::move(measure.of)](const SeedRun& seed) {
            const double value = of(seed);
            return value > 0 ? std::log10(value) : std::nan("");
          },
          std::log10(measure.worst)};
}

void JudgePart(const PartRun& part,
               const std::string& net,
               const std::string& figure,
               const Judged& judged,
               Verdicts& verdicts) {
  const bool vgg = part.name == "vgg";
  const std::vector<ClaimText> texts = {
      {.id = absl::StrCat(part.name, "-loss"),
       .statement = absl::StrCat(net, ": along the gradient the loss varies less with batch norm."),
       .source = absl::StrCat(kSource, figure),
       .quantity = "loss range, standard over batch norm (median over the judged steps)",
       .paper = vgg ? "up to 100 times early in training (the widest steps, not a median)" : "",
       .shown = Shown::kTimes},
      {.id = absl::StrCat(part.name, "-predictiveness"),
       .statement = absl::StrCat(
           net, ": gradients are more predictive with batch norm: they change less along a step."),
       .source = absl::StrCat(kSource, figure),
       .quantity = "greatest gradient difference, standard over batch norm (median over the judged "
                   "steps)",
       .paper = vgg ? "spikes to about 250 without, below 30 with (spikes, not medians)" : "",
       .shown = Shown::kTimes},
      {.id = absl::StrCat(part.name, "-smoothness"),
       .statement = absl::StrCat(
           net, ": the effective beta-smoothness is better (beta is smaller) with batch norm."),
       .source = absl::StrCat(kSource, figure),
       .quantity = "beta, standard over batch norm (median over the judged steps)",
       .paper = vgg ? "beta within 5 to 45 without, 15 to 20 with" : "",
       .shown = Shown::kTimes},
      {.id = absl::StrCat(part.name, "-steadiness"),
       .statement =
           absl::StrCat(net, ": the smoothness is steadier over training with batch norm."),
       .source = absl::StrCat(kSource, figure),
       .quantity =
           "standard deviation over the judged steps of log10 beta, standard minus batch norm",
       .paper = vgg ? "beta within 5 to 45 without, 15 to 20 with" : ""}};
  verdicts.Precondition(judged.rule, judged.obstacle);
  const CellRun& standard = part.Cell({kStandard});
  const CellRun& batch = part.Cell({kBatchNorm});
  const Starts& starts = judged.starts;
  verdicts.Above(texts[0], Ratio(standard, batch, MedianLossRange(starts)), 0, kLarge);
  verdicts.Above(texts[1], Ratio(standard, batch, MedianOf(kPredictivenessMax, starts)), 0, kLarge);
  verdicts.Above(texts[2], Ratio(standard, batch, MedianOf(kSmoothness, starts)), 0, kLarge);
  verdicts.Above(texts[3], Difference(standard, batch, Unsteadiness(starts)), 0);
}

report::Chart BandChart(const PartRun& part,
                        const Starts& starts,
                        const char* low,
                        const char* high,
                        const std::string& id,
                        const std::string& title,
                        const std::string& y) {
  report::LineChart chart{.x = {.title = "step"},
                          .y = {.title = y, .scale = report::Scale::kLogarithmic}};
  for (const CellRun& cell : part.cells) {
    chart.lines.push_back(Band(cell, low, high, cell.Name()));
  }
  AddStarts(starts, chart);
  return {.id = absl::StrCat("landscape-", part.name, "-", id),
          .title = title,
          .caption = absl::StrCat(
              "The band is what the step sizes reach: from the smallest to the largest value along "
              "the gradient of one step, each the mean over the seeds that succeeded. Steps at "
              "which a seed overflows are left out.",
              StartsCaption(starts)),
          .body = std::move(chart)};
}

report::Table Numbers(const PartRun& part, const Starts& starts) {
  report::Table table{.id = absl::StrCat("landscape-", part.name, "-numbers"),
                      .title = "Medians over the judged steps",
                      .columns = SummaryColumns({"net", "quantity"}, "mean over seeds")};
  struct Row {
    const char* name;
    Measure measure;
    bool logarithms;
  };
  // Positive numbers that differ by orders of magnitude from seed to seed: geometric means, as in the claims.
  const std::vector<Row> rows = {
      {"loss range (geometric mean)", Log10Of(MedianLossRange(starts)), true},
      {"greatest gradient difference (geometric mean)",
       Log10Of(MedianOf(kPredictivenessMax, starts)), true},
      {"beta-smoothness (geometric mean)", Log10Of(MedianOf(kSmoothness, starts)), true},
      {"deviation of log10 beta over steps", Unsteadiness(starts), false}};
  for (const Row& of : rows) {
    for (const CellRun& cell : part.cells) {
      std::vector<report::Table::Value> row = {cell.Name(), std::string(of.name)};
      for (report::Table::Value& value : SummaryCells(Over(cell, of.measure), of.logarithms)) {
        row.push_back(std::move(value));
      }
      table.rows.push_back(std::move(row));
    }
  }
  return table;
}

void Describe(const PartRun& part,
              const Starts& starts,
              const std::string& title,
              bool classes,
              report::Report& report) {
  report::LineChart smoothness{
      .x = {.title = "step"},
      .y = {.title = "effective beta-smoothness", .scale = report::Scale::kLogarithmic}};
  for (const CellRun& cell : part.cells) {
    AddCurves(cell, kSmoothness, cell.Name(), smoothness);
  }
  AddStarts(starts, smoothness);
  std::vector<report::Chart> charts = {
      BandChart(part, starts, kLossMin, kLossMax, "loss", "Loss along the gradient", "loss"),
      BandChart(part, starts, kPredictivenessMin, kPredictivenessMax, "predictiveness",
                "Gradient predictiveness", "||grad(w) - grad(w - eta d)||"),
      {.id = absl::StrCat("landscape-", part.name, "-smoothness"),
       .title = "Effective beta-smoothness",
       .caption = absl::StrCat("The greatest change of the gradient per distance along it. ",
                               kCurvesCaption, StartsCaption(starts)),
       .body = std::move(smoothness)}};
  for (report::Chart& chart : TrainingCurves(part, classes)) {
    charts.push_back(std::move(chart));
  }
  report.sections.push_back(
      {.title = title, .text = "", .charts = std::move(charts), .tables = {Numbers(part, starts)}});
}

}  // namespace

void AnalyzeLandscape(const Run& run, report::Report& report) {
  const PartRun& vgg = run.Get("vgg");
  const PartRun& linear = run.Get("linear");
  const Judged of_vgg = JudgedOffPlateau(vgg);
  const Judged of_linear = JudgedIfItFalls(linear);
  Verdicts verdicts;
  JudgePart(vgg, "VGG", "figure 4", of_vgg, verdicts);
  JudgePart(linear, "Deep linear network", "appendix", of_linear, verdicts);
  report.claims = verdicts.Judge();
  Describe(vgg, of_vgg.starts, "VGG", true, report);
  Describe(linear, of_linear.starts, "Deep linear network", false, report);
}

}  // namespace normlab::client::studies
