// The analysis of study `covariate-shift`.
#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "client/studies/analysis.h"
#include "client/studies/curves.h"
#include "client/studies/measure.h"

namespace normlab::client::studies {
namespace {

constexpr char kShift[] = "covariate_shift";
constexpr char kCosine[] = "covariate_shift_cosine";
constexpr char kRelative[] = "covariate_shift_relative";
constexpr std::array<const char*, 3> kThirds = {"first third of the layers", "middle third",
                                                "last third"};
constexpr char kSource[] = "Santurkar et al. 2018, section 2.2, figure 3";

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

// The mean over a third of the later layers of the mean logarithm. Diverged: infinite.
Measure MeanLogOfThird(const std::vector<std::string>& layers,
                       const char* quantity,
                       size_t third,
                       const Starts& starts) {
  return {[&layers, quantity, third, &starts](const SeedRun& seed) {
            const size_t begin = third * layers.size() / kThirds.size();
            const size_t end = (third + 1) * layers.size() / kThirds.size();
            double sum = 0;
            for (size_t i = begin; i < end; ++i) {
              sum += MeanLog10(seed, LayerSeries(layers[i], quantity), StartOf(starts, seed));
            }
            return end > begin ? sum / static_cast<double>(end - begin) : std::nan("");
          },
          std::numeric_limits<double>::infinity()};
}

// Batch norm's shift over the standard net's in each third of the depth.
std::vector<Sample> RatiosOfThirds(const PartRun& part,
                                   const char* quantity,
                                   const Starts& starts) {
  const CellRun& standard = part.Cell({kStandard});
  const CellRun& batch = part.Cell({kBatchNorm});
  const std::vector<std::string> standard_layers = LaterLayers(standard, quantity);
  const std::vector<std::string> batch_layers = LaterLayers(batch, quantity);
  std::vector<Sample> samples;
  for (size_t third = 0; third < kThirds.size(); ++third) {
    samples.push_back(Combine(
        Over(batch, MeanLogOfThird(batch_layers, quantity, third, starts), kThirds[third]),
        Over(standard, MeanLogOfThird(standard_layers, quantity, third, starts)), LogMinus));
  }
  return samples;
}

// The mean over the later layers of the mean cosine. Diverged: -1.
Sample MeanCosines(const CellRun& cell, const Starts& starts) {
  const std::vector<std::string> layers = LaterLayers(cell, kCosine);
  return Over(cell, {[&](const SeedRun& seed) {
                       double sum = 0;
                       int counted = 0;
                       for (const std::string& layer : layers) {
                         const double cosine =
                             Mean(seed, LayerSeries(layer, kCosine), StartOf(starts, seed));
                         if (std::isfinite(cosine)) {
                           sum += cosine;
                           ++counted;
                         }
                       }
                       return counted > 0 ? sum / counted : std::nan("");
                     },
                     -1});
}

// Each third of the depth: batch norm over standard.
report::Table ThirdsTable(const PartRun& part, const Starts& starts) {
  report::Table table{
      .id = absl::StrCat("shift-", part.name, "-thirds"),
      .title = "Batch norm over standard, by depth",
      .columns = SummaryColumns({"quantity", "layers"}, "times as large (geometric mean)")};
  for (const auto& [quantity, name] :
       {std::pair{kShift, "||G - G'||"}, std::pair{kRelative, "||G - G'|| / ||G||"}}) {
    for (const Sample& sample : RatiosOfThirds(part, quantity, starts)) {
      std::vector<report::Table::Value> row = {std::string(name), sample.name};
      for (report::Table::Value& value : SummaryCells(sample, true)) {
        row.push_back(std::move(value));
      }
      table.rows.push_back(std::move(row));
    }
  }
  return table;
}

report::Chart DepthChart(const PartRun& part,
                         const Starts& starts,
                         const char* quantity,
                         const char* title,
                         const char* y,
                         bool logarithmic) {
  report::DotChart chart{
      .x = {.title = "layer"},
      .y = {.title = y,
            .scale = logarithmic ? report::Scale::kLogarithmic : report::Scale::kLinear}};
  for (const CellRun& cell : part.cells) {
    const std::vector<std::string> layers = LaterLayers(cell, quantity);
    for (size_t i = 0; i < layers.size(); ++i) {
      const std::string series = LayerSeries(layers[i], quantity);
      // On a logarithmic axis intervals of means may reach below 0: there the single seeds say enough.
      const Measure mean = {[&](const SeedRun& seed) {
                              const int64_t start = StartOf(starts, seed);
                              return logarithmic ? std::pow(10, MeanLog10(seed, series, start))
                                                 : Mean(seed, series, start);
                            },
                            std::nan("")};
      report::DotChart::Dot dot = Dot(Place(i), cell.Name(), Over(cell, mean));
      if (logarithmic) {
        dot.interval.reset();
      }
      chart.dots.push_back(std::move(dot));
    }
  }
  return {
      .id = absl::StrCat("shift-", part.name, "-", quantity),
      .title = title,
      .caption =
          "Mean over the judged steps and the seeds that did not diverge for each layer; single "
          "seeds drawn small. The first layer is left out: its shift is 0.",
      .body = std::move(chart)};
}

report::Chart OverTime(const PartRun& part,
                       const Starts& starts,
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
        AddCurves(cell, LayerSeries(layers[i], quantity), cell.Name(), chart, Place(i));
      }
    }
  }
  AddStarts(starts, chart);
  return {.id = absl::StrCat("shift-", part.name, "-time-", quantity),
          .title = title,
          .caption = absl::StrCat("Three layers, spread over the depth. ", kCurvesCaption,
                                  StartsCaption(starts)),
          .body = std::move(chart)};
}

void JudgePart(const PartRun& part,
               const std::string& net,
               const Judged& judged,
               Verdicts& verdicts) {
  const std::vector<ClaimText> texts = {
      {.id = absl::StrCat(part.name, "-length"),
       .statement = absl::StrCat(net,
                                 ": batch norm need not reduce internal covariate shift: some part "
                                 "of the net has more of it."),
       .source = kSource,
       .quantity =
           "||G - G'||, batch norm over standard, of the third of the layers where it is surest to "
           "be larger",
       .shown = Shown::kTimes},
      {.id = absl::StrCat(part.name, "-relative"),
       .statement = absl::StrCat(net, ": nor relative to the gradient's length."),
       .source = "this study: ||G - G'|| alone compares gradients of different scale",
       .quantity =
           "||G - G'||/||G||, batch norm over standard, of the third of the layers where it is "
           "surest to be larger",
       .shown = Shown::kTimes},
      {.id = absl::StrCat(part.name, "-cosine"),
       .statement = absl::StrCat(net,
                                 ": the directions of the gradients before and after the layers "
                                 "below moved agree less with batch norm."),
       .source = kSource,
       .quantity = "mean cosine of G and G' over layers and steps, standard minus batch norm",
       .paper = part.name == "linear" ? "almost uncorrelated with batch norm" : ""}};
  verdicts.Precondition(judged.rule, judged.obstacle);
  verdicts.SomeAbove(texts[0], RatiosOfThirds(part, kShift, judged.starts), 0, 1);
  verdicts.SomeAbove(texts[1], RatiosOfThirds(part, kRelative, judged.starts), 0, 1);
  verdicts.Above(texts[2],
                 Combine(MeanCosines(part.Cell({kStandard}), judged.starts),
                         MeanCosines(part.Cell({kBatchNorm}), judged.starts), Minus),
                 0);
}

void Describe(const PartRun& part,
              const Starts& starts,
              const std::string& title,
              bool classes,
              report::Report& report) {
  std::vector<report::Chart> charts = {
      DepthChart(part, starts, kShift, "Internal covariate shift per layer", "||G - G'||", true),
      DepthChart(part, starts, kRelative, "Relative to the gradient", "||G - G'|| / ||G||", true),
      DepthChart(part, starts, kCosine, "Cosine of the gradients before and after",
                 "cosine of G and G'", false),
      OverTime(part, starts, kCosine, "The cosine over time", "cosine of G and G'")};
  for (report::Chart& chart : TrainingCurves(part, classes)) {
    charts.push_back(std::move(chart));
  }
  report.sections.push_back({.title = title,
                             .text = "",
                             .charts = std::move(charts),
                             .tables = {ThirdsTable(part, starts)}});
}

}  // namespace

void AnalyzeCovariateShift(const Run& run, report::Report& report) {
  const PartRun& vgg = run.Get("vgg");
  const PartRun& linear = run.Get("linear");
  const Judged of_vgg = JudgedOffPlateau(vgg);
  const Judged of_linear = JudgedIfItFalls(linear);
  Verdicts verdicts;
  JudgePart(vgg, "VGG", of_vgg, verdicts);
  JudgePart(linear, "Deep linear network", of_linear, verdicts);
  report.claims = verdicts.Judge();
  Describe(vgg, of_vgg.starts, "VGG", true, report);
  Describe(linear, of_linear.starts, "Deep linear network", false, report);
}

}  // namespace normlab::client::studies
