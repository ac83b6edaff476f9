// The analysis of study `landscape`.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "client/studies/analysis.h"
#include "client/studies/measure.h"
#include "common/statistics.h"

namespace normlab::client::studies {
namespace {

constexpr char kLossMin[] = "landscape/loss_min";
constexpr char kLossMax[] = "landscape/loss_max";
constexpr char kPredictivenessMin[] = "landscape/predictiveness_min";
constexpr char kPredictivenessMax[] = "landscape/predictiveness_max";
constexpr char kSmoothness[] = "landscape/smoothness";
constexpr char kSource[] = "Santurkar et al. 2018, section 3.1, figure ";
// Ten times: an effect that 3 seeds may show.
constexpr double kLarge = 1;

// The median over the probed steps of the range of the loss; an overflow along the way is an infinite range.
double MedianLossRange(const SeedRun& seed) {
  const Points* low = seed.Find(kLossMin);
  const Points* high = seed.Find(kLossMax);
  if (low == nullptr || high == nullptr || low->values.empty()) {
    return std::nan("");
  }
  std::vector<double> ranges;
  for (size_t i = 0; i < std::min(low->values.size(), high->values.size()); ++i) {
    ranges.push_back(std::isfinite(high->values[i]) ? high->values[i] - low->values[i]
                                                    : std::numeric_limits<double>::infinity());
  }
  const auto middle = ranges.begin() + static_cast<int64_t>(ranges.size() / 2);
  std::nth_element(ranges.begin(), middle, ranges.end());
  return *middle;
}

// How unsteady the smoothness is: the standard deviation of its logarithm over the probed steps, overflows left out.
double Unsteadiness(const SeedRun& seed) {
  const Points* points = seed.Find(kSmoothness);
  if (points == nullptr) {
    return std::nan("");
  }
  std::vector<double> logs;
  for (const double value : points->values) {
    if (std::isfinite(value) && value > 0) {
      logs.push_back(std::log10(value));
    }
  }
  const auto statistics = common::DescribeSample(logs);
  return statistics.n >= 2 ? statistics.standard_deviation : std::nan("");
}

void JudgePart(const PartRun& part,
               const std::string& net,
               const std::string& figure,
               const std::optional<std::string>& obstacle,
               Verdicts& verdicts) {
  const bool vgg = part.name == "vgg";
  const std::vector<ClaimText> texts = {
      {.id = absl::StrCat(part.name, "-loss"),
       .statement = absl::StrCat(net, ": along the gradient the loss varies less with batch norm."),
       .source = absl::StrCat(kSource, figure),
       .quantity = "log10 of the loss range, standard over batch norm (median over steps)",
       .paper = vgg ? "up to 2 early in training" : ""},
      {.id = absl::StrCat(part.name, "-predictiveness"),
       .statement = absl::StrCat(
           net, ": gradients are more predictive with batch norm: they change less along a step."),
       .source = absl::StrCat(kSource, figure),
       .quantity = "log10 of the greatest gradient difference, standard over batch norm (median "
                   "over steps)",
       .paper = vgg ? "spikes to about 250 without, below 30 with" : ""},
      {.id = absl::StrCat(part.name, "-smoothness"),
       .statement = absl::StrCat(
           net, ": the effective beta-smoothness is better (beta is smaller) with batch norm."),
       .source = absl::StrCat(kSource, figure),
       .quantity = "log10 of beta, standard over batch norm (median over steps)",
       .paper = vgg ? "beta within 5 to 45 without, 15 to 20 with" : ""},
      {.id = absl::StrCat(part.name, "-steadiness"),
       .statement =
           absl::StrCat(net, ": the smoothness is steadier over training with batch norm."),
       .source = absl::StrCat(kSource, figure),
       .quantity = "standard deviation over steps of log10 beta, standard minus batch norm",
       .paper = vgg ? "beta within 5 to 45 without, 15 to 20 with" : ""}};
  if (obstacle.has_value()) {
    for (const ClaimText& text : texts) {
      verdicts.Untested(text, "Judged only if the standard net trains.", *obstacle);
    }
    return;
  }
  const CellRun& standard = part.Cell({kStandard});
  const CellRun& batch = part.Cell({kBatchNorm});
  verdicts.Above(texts[0], Ratio(standard, batch, MedianLossRange), 0, kLarge);
  verdicts.Above(
      texts[1],
      Ratio(standard, batch, [](const SeedRun& seed) { return Median(seed, kPredictivenessMax); }),
      0, kLarge);
  verdicts.Above(
      texts[2],
      Ratio(standard, batch, [](const SeedRun& seed) { return Median(seed, kSmoothness); }), 0,
      kLarge);
  verdicts.Above(texts[3], Difference(standard, batch, Unsteadiness), 0);
}

report::Chart BandChart(const PartRun& part,
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
  return {.id = absl::StrCat("landscape-", part.name, "-", id),
          .title = title,
          .caption =
              "The band is what the step sizes reach: from the smallest to the largest value along "
              "the gradient of one step, each the "
              "mean over seeds. Steps at which a seed overflows are left out.",
          .body = std::move(chart)};
}

report::Table Numbers(const PartRun& part) {
  report::Table table{.id = absl::StrCat("landscape-", part.name, "-numbers"),
                      .title = "Medians over the probed steps",
                      .columns = SummaryColumns({"net", "quantity"}, "mean over seeds")};
  const std::vector<std::pair<std::string, Measure>> measures = {
      {"loss range", MedianLossRange},
      {"greatest gradient difference",
       [](const SeedRun& seed) { return Median(seed, kPredictivenessMax); }},
      {"beta-smoothness", [](const SeedRun& seed) { return Median(seed, kSmoothness); }},
      {"deviation of log10 beta over steps", Unsteadiness}};
  for (const auto& [name, measure] : measures) {
    for (const CellRun& cell : part.cells) {
      std::vector<report::Table::Value> row = {cell.Name(), name};
      for (report::Table::Value& value : SummaryCells(Over(cell, measure))) {
        row.push_back(std::move(value));
      }
      table.rows.push_back(std::move(row));
    }
  }
  return table;
}

void Describe(const PartRun& part, const std::string& title, bool classes, report::Report& report) {
  report::LineChart smoothness{
      .x = {.title = "step"},
      .y = {.title = "effective beta-smoothness", .scale = report::Scale::kLogarithmic}};
  for (const CellRun& cell : part.cells) {
    smoothness.lines.push_back(Curve(cell, kSmoothness, cell.Name()));
  }
  std::vector<report::Chart> charts = {
      BandChart(part, kLossMin, kLossMax, "loss", "Loss along the gradient", "loss"),
      BandChart(part, kPredictivenessMin, kPredictivenessMax, "predictiveness",
                "Gradient predictiveness", "||grad(w) - grad(w - eta d)||"),
      {.id = absl::StrCat("landscape-", part.name, "-smoothness"),
       .title = "Effective beta-smoothness",
       .caption = "The greatest change of the gradient per distance along it; mean over seeds, "
                  "band from the smallest to the largest seed.",
       .body = std::move(smoothness)}};
  for (report::Chart& chart : TrainingCurves(part, classes)) {
    charts.push_back(std::move(chart));
  }
  report.sections.push_back(
      {.title = title, .text = "", .charts = std::move(charts), .tables = {Numbers(part)}});
}

}  // namespace

void AnalyzeLandscape(const Run& run, report::Report& report) {
  const PartRun& vgg = run.Get("vgg");
  const PartRun& linear = run.Get("linear");
  Verdicts verdicts;
  JudgePart(vgg, "VGG", "4", StuckOnPlateau(vgg.Cell({kStandard})), verdicts);
  JudgePart(linear, "Deep linear network", "9", LossDidNotFall(linear.Cell({kStandard})), verdicts);
  report.claims = verdicts.Judge();
  Describe(vgg, "VGG", true, report);
  Describe(linear, "Deep linear network", false, report);
}

}  // namespace normlab::client::studies
