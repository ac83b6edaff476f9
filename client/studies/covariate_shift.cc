// The analysis of study `covariate-shift`.
#include <array>
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
constexpr std::array<const char*, 3> kThirds = {"first third of the layers", "middle third",
                                                "last third"};
constexpr char kSource[] = "Santurkar et al. 2018, section 2.2, figure 2";

// The layers but the first, whose shift is 0 always. Nets with and without normalizers may name them differently: layers
// are compared by their place.
std::vector<std::string> LaterLayers(const CellRun& cell, const char* quantity) {
  std::vector<std::string> layers = LayersWith(cell, quantity);
  if (!layers.empty()) {
    layers.erase(layers.begin());
  }
  return layers;
}

// "layer 2": the first of LaterLayers.
std::string Place(size_t i) {
  return absl::StrCat("layer ", i + 2);
}

// The mean over a third of the later layers of the mean logarithm.
double MeanLogOfThird(const SeedRun& seed,
                      const std::vector<std::string>& layers,
                      const char* quantity,
                      size_t third) {
  const size_t begin = third * layers.size() / kThirds.size();
  const size_t end = (third + 1) * layers.size() / kThirds.size();
  double sum = 0;
  for (size_t i = begin; i < end; ++i) {
    sum += MeanLog10(seed, LayerSeries(layers[i], quantity));
  }
  return end > begin ? sum / static_cast<double>(end - begin) : std::nan("");
}

// Batch norm's shift over the standard net's in each third of the depth.
std::vector<Sample> RatiosOfThirds(const PartRun& part, const char* quantity) {
  const CellRun& standard = part.Cell({kStandard});
  const CellRun& batch = part.Cell({kBatchNorm});
  const std::vector<std::string> standard_layers = LaterLayers(standard, quantity);
  const std::vector<std::string> batch_layers = LaterLayers(batch, quantity);
  std::vector<Sample> samples;
  for (size_t third = 0; third < kThirds.size(); ++third) {
    Sample ratio = Over(
        batch,
        [&](const SeedRun& seed) { return MeanLogOfThird(seed, batch_layers, quantity, third); },
        kThirds[third]);
    const Sample below = Over(standard, [&](const SeedRun& seed) {
      return MeanLogOfThird(seed, standard_layers, quantity, third);
    });
    for (size_t s = 0; s < ratio.values.size(); ++s) {
      ratio.values[s] -= below.values[s];
    }
    ratio.diverged += below.diverged;
    samples.push_back(std::move(ratio));
  }
  return samples;
}

// The mean over the later layers of the mean cosine.
Sample MeanCosines(const CellRun& cell) {
  const std::vector<std::string> layers = LaterLayers(cell, kCosine);
  return Over(cell, [&layers](const SeedRun& seed) {
    double sum = 0;
    int counted = 0;
    for (const std::string& layer : layers) {
      const double cosine = Mean(seed, LayerSeries(layer, kCosine));
      if (std::isfinite(cosine)) {
        sum += cosine;
        ++counted;
      }
    }
    return counted > 0 ? sum / counted : std::nan("");
  });
}

Sample Minus(Sample a, const Sample& b) {
  for (size_t i = 0; i < a.values.size(); ++i) {
    a.values[i] -= b.values[i];
  }
  a.diverged += b.diverged;
  return a;
}

report::Chart DepthChart(
    const PartRun& part, const char* quantity, const char* title, const char* y, bool logarithmic) {
  report::DotChart chart{
      .x = {.title = "layer"},
      .y = {.title = y,
            .scale = logarithmic ? report::Scale::kLogarithmic : report::Scale::kLinear}};
  for (const CellRun& cell : part.cells) {
    const std::vector<std::string> layers = LaterLayers(cell, quantity);
    for (size_t i = 0; i < layers.size(); ++i) {
      const std::string series = LayerSeries(layers[i], quantity);
      // On a logarithmic axis intervals of means may reach below 0: there the single seeds say enough.
      report::DotChart::Dot dot =
          Dot(Place(i), cell.Name(), Over(cell, [&](const SeedRun& seed) {
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
  const size_t count = LaterLayers(part.cells.front(), quantity).size();
  // Three of them, spread over the depth.
  for (const size_t i : {size_t{0}, count / 2, count - 1}) {
    for (const CellRun& cell : part.cells) {
      const std::vector<std::string> layers = LaterLayers(cell, quantity);
      if (i < layers.size()) {
        chart.lines.push_back(Curve(cell, LayerSeries(layers[i], quantity), cell.Name()));
        chart.facets.push_back(Place(i));
      }
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
       .statement = absl::StrCat(net,
                                 ": batch norm need not reduce internal covariate shift: some part "
                                 "of the net has more of it."),
       .source = kSource,
       .quantity =
           "log10 of ||G - G'||, batch norm over standard, of the third of the layers where it "
           "is surest to be larger"},
      {.id = absl::StrCat(part.name, "-relative"),
       .statement = absl::StrCat(net, ": nor relative to the gradient's length."),
       .source = "this study: ||G - G'|| alone compares gradients of different scale",
       .quantity =
           "log10 of ||G - G'||/||G||, batch norm over standard, of the third of the layers "
           "where it is surest to be larger"},
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
  verdicts.SomeAbove(texts[0], RatiosOfThirds(part, kShift), 0, 1);
  verdicts.SomeAbove(texts[1], RatiosOfThirds(part, kRelative), 0, 1);
  verdicts.Above(texts[2],
                 Minus(MeanCosines(part.Cell({kStandard})), MeanCosines(part.Cell({kBatchNorm}))),
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
