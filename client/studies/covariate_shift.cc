// The analysis of study `covariate-shift`.
#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "client/studies/analysis.h"
#include "client/studies/measure.h"

namespace normlab::client::studies {
namespace {

constexpr char kShift[] = "covariate_shift";
constexpr char kCosine[] = "covariate_shift_cosine";
constexpr char kRelative[] = "covariate_shift_relative";
constexpr char kSource[] = "Santurkar et al. 2018, section 2.2, figure 2";

// Batch norm's shift over the standard net's, of every layer but the first, whose shift is 0 always.
std::vector<Sample> LayerRatios(const PartRun& part, const char* quantity) {
  const CellRun& standard = part.Cell({kStandard});
  const CellRun& batch = part.Cell({kBatchNorm});
  std::vector<std::string> layers = LayersWith(standard, quantity);
  std::vector<Sample> samples;
  for (size_t i = 1; i < layers.size(); ++i) {
    const std::string series = LayerSeries(layers[i], quantity);
    Sample batch_values = Over(
        batch, [&](const SeedRun& seed) { return MeanLog10(seed, series); }, layers[i]);
    const Sample standard_values =
        Over(standard, [&](const SeedRun& seed) { return MeanLog10(seed, series); });
    for (size_t s = 0; s < batch_values.values.size(); ++s) {
      batch_values.values[s] -= standard_values.values[s];
    }
    batch_values.diverged += standard_values.diverged;
    samples.push_back(std::move(batch_values));
  }
  return samples;
}

// The mean over the layers but the first of the mean cosine.
double MeanCosine(const SeedRun& seed, const std::vector<std::string>& layers) {
  double sum = 0;
  int counted = 0;
  for (size_t i = 1; i < layers.size(); ++i) {
    const double cosine = Mean(seed, LayerSeries(layers[i], kCosine));
    if (std::isfinite(cosine)) {
      sum += cosine;
      ++counted;
    }
  }
  return counted > 0 ? sum / counted : std::nan("");
}

report::Chart DepthChart(
    const PartRun& part, const char* quantity, const char* title, const char* y, bool logarithmic) {
  report::DotChart chart{
      .x = {.title = "layer"},
      .y = {.title = y,
            .scale = logarithmic ? report::Scale::kLogarithmic : report::Scale::kLinear}};
  for (const CellRun& cell : part.cells) {
    const std::vector<std::string> layers = LayersWith(cell, quantity);
    for (size_t i = 1; i < layers.size(); ++i) {
      const std::string series = LayerSeries(layers[i], quantity);
      // On a logarithmic axis intervals of means may reach below 0: there the single seeds say enough.
      report::DotChart::Dot dot =
          Dot(layers[i], cell.Name(), Over(cell, [&](const SeedRun& seed) {
                return logarithmic ? std::pow(10, MeanLog10(seed, series)) : Mean(seed, series);
              }));
      if (logarithmic) {
        dot.interval.reset();
      }
      chart.dots.push_back(std::move(dot));
    }
  }
  return {.id = absl::StrCat("shift-", part.name, "-", quantity),
          .title = title,
          .caption =
              "Mean over steps and seeds for each layer; single seeds drawn small. The first layer "
              "is left out: its shift is 0.",
          .body = std::move(chart)};
}

report::Chart OverTime(const PartRun& part,
                       const char* quantity,
                       const char* title,
                       const char* y) {
  report::LineChart chart{.x = {.title = "step"}, .y = {.title = y}};
  const std::vector<std::string> layers = LayersWith(part.cells.front(), quantity);
  // Three of them, spread over the depth.
  for (const size_t i : {layers.size() / 4, layers.size() / 2, layers.size() - 1}) {
    if (i == 0 || i >= layers.size()) {
      continue;
    }
    for (const CellRun& cell : part.cells) {
      chart.lines.push_back(Curve(cell, LayerSeries(layers[i], quantity), cell.Name()));
      chart.facets.push_back(layers[i]);
    }
  }
  return {.id = absl::StrCat("shift-", part.name, "-time-", quantity),
          .title = title,
          .caption =
              "Three layers, spread over the depth; mean over seeds, band from the smallest to the "
              "largest.",
          .body = std::move(chart)};
}

void JudgePart(const PartRun& part,
               const std::string& net,
               const std::optional<std::string>& obstacle,
               Verdicts& verdicts) {
  const std::vector<ClaimText> texts = {
      {.id = absl::StrCat(part.name, "-length"),
       .statement = absl::StrCat(
           net,
           ": batch norm need not reduce internal covariate shift: some layer has more of it."),
       .source = kSource,
       .quantity = "log10 of ||G - G'||, batch norm over standard, of the layer where it is surest "
                   "to be larger"},
      {.id = absl::StrCat(part.name, "-relative"),
       .statement = absl::StrCat(net, ": nor relative to the gradient's length."),
       .source = "this study: ||G - G'|| alone compares gradients of different scale",
       .quantity = "log10 of ||G - G'||/||G||, batch norm over standard, of the layer where it is "
                   "surest to be larger"},
      {.id = absl::StrCat(part.name, "-cosine"),
       .statement = absl::StrCat(net,
                                 ": the directions of the gradients before and after the layers "
                                 "below moved agree less with batch norm."),
       .source = kSource,
       .quantity = "mean cosine of G and G' over layers and steps, standard minus batch norm",
       .paper = part.name == "linear" ? "almost uncorrelated with batch norm" : ""}};
  if (obstacle.has_value()) {
    for (const ClaimText& text : texts) {
      verdicts.Untested(text, "Judged only if the standard net trains.", *obstacle);
    }
    return;
  }
  verdicts.SomeAbove(texts[0], LayerRatios(part, kShift), 0, 1);
  verdicts.SomeAbove(texts[1], LayerRatios(part, kRelative), 0, 1);
  const std::vector<std::string> layers = LayersWith(part.Cell({kStandard}), kCosine);
  verdicts.Above(texts[2],
                 Difference(part.Cell({kStandard}), part.Cell({kBatchNorm}),
                            [&layers](const SeedRun& seed) { return MeanCosine(seed, layers); }),
                 0);
}

void Describe(const PartRun& part, const std::string& title, bool classes, report::Report& report) {
  std::vector<report::Chart> charts = {
      DepthChart(part, kShift, "Internal covariate shift per layer", "||G - G'||", true),
      DepthChart(part, kRelative, "Relative to the gradient", "||G - G'|| / ||G||", true),
      DepthChart(part, kCosine, "Cosine of the gradients before and after", "cosine of G and G'",
                 false),
      OverTime(part, kCosine, "The cosine over time", "cosine of G and G'")};
  for (report::Chart& chart : TrainingCurves(part, classes)) {
    charts.push_back(std::move(chart));
  }
  report.sections.push_back({.title = title, .text = "", .charts = std::move(charts)});
}

}  // namespace

void AnalyzeCovariateShift(const Run& run, report::Report& report) {
  const PartRun& vgg = run.Get("vgg");
  const PartRun& linear = run.Get("linear");
  Verdicts verdicts;
  JudgePart(vgg, "VGG", StuckOnPlateau(vgg.Cell({kStandard})), verdicts);
  JudgePart(linear, "Deep linear network", LossDidNotFall(linear.Cell({kStandard})), verdicts);
  report.claims = verdicts.Judge();
  Describe(vgg, "VGG", true, report);
  Describe(linear, "Deep linear network", false, report);
}

}  // namespace normlab::client::studies
