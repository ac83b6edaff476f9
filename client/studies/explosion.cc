// The analysis of study `explosion`.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "client/studies/analysis.h"
#include "client/studies/closed_forms.h"
#include "client/studies/measure.h"
#include "common/statistics.h"

namespace normlab::client::studies {
namespace {

// Layers left out at each end: the first have not reached the fixed point of the forward pass, the last not that of the
// backward pass.
constexpr size_t kMargin = 10;
constexpr double kTrains = 0.5;
// What each of 3 seeds must show: far from 0.5, and near chance.
constexpr double kClearlyTrained = 0.65;
constexpr double kClearlyUntrained = 0.2;
// Layers that no net trains with, by the paper.
constexpr double kUntrainable = 50;
constexpr int kLastSteps = 20;
constexpr char kGradient[] = "output_gradient_norm";

// ||dL/dz_l|| of the hidden layers, from the first one on; empty without a result.
std::vector<double> GradientNorms(const SeedRun& seed, const std::vector<std::string>& layers) {
  std::vector<double> norms;
  for (const std::string& layer : layers) {
    const Points* points = seed.Find(LayerSeries(layer, kGradient));
    if (points == nullptr || points->values.empty()) {
      return {};
    }
    norms.push_back(points->values.front());
  }
  return norms;
}

// All but the linear layer to the classes, which no normalizer follows.
std::vector<std::string> HiddenLayers(const CellRun& cell) {
  std::vector<std::string> layers = LayersWith(cell, kGradient);
  if (!layers.empty()) {
    layers.pop_back();
  }
  return layers;
}

// Growth per layer of the squared norm towards the input, as a natural logarithm.
double LogRate(const SeedRun& seed, const std::vector<std::string>& layers) {
  const std::vector<double> norms = GradientNorms(seed, layers);
  const size_t margin = std::min(kMargin, norms.size() / 4);
  if (norms.size() < 2 * margin + 2) {
    return std::nan("");
  }
  const size_t last = norms.size() - 1 - margin;
  return 2 * std::log(norms[margin] / norms[last]) / static_cast<double>(last - margin);
}

// Of the squared norm from the last hidden layer to the first.
double TotalLog10Growth(const SeedRun& seed, const std::vector<std::string>& layers) {
  const std::vector<double> norms = GradientNorms(seed, layers);
  return norms.empty() ? std::nan("") : 2 * std::log10(norms.front() / norms.back());
}

double Expected(const std::string& activation, int batch) {
  return activation == "ReLU" ? ReluGrowth(batch) : LinearGrowth(batch);
}

int BatchOf(const CellRun& cell) {
  int batch = 0;
  return absl::SimpleAtoi(cell.levels[1], &batch) ? batch : 0;
}

// The stated tolerances: smaller batches have heavier tails.
double Tolerance(int batch) {
  return batch >= 32 ? 0.01 : batch >= 16 ? 0.02 : 0.03;
}

void JudgeGrowth(const PartRun& growth, Verdicts& verdicts) {
  for (const std::string& activation : growth.LevelsOf("activation")) {
    std::vector<Verdicts::Agreement> agreements;
    for (const CellRun& cell : growth.cells) {
      if (cell.levels[0] != activation) {
        continue;
      }
      const int batch = BatchOf(cell);
      const std::vector<std::string> layers = HiddenLayers(cell);
      const double expected = Expected(activation, batch);
      const Measure deviation = {
          [&](const SeedRun& seed) { return LogRate(seed, layers) - std::log(expected); },
          kLargestLogRatio};
      agreements.push_back({Over(cell, deviation, absl::StrCat("B = ", batch)), Tolerance(batch)});
    }
    verdicts.AllAgree(
        {.id = activation == "ReLU" ? "relu" : "linear",
         .statement = absl::StrCat(
             "Gradients of deep ", activation,
             " batch norm nets grow per layer as the closed form for the batch size says."),
         .source = "Yang et al. 2019",
         .quantity = "deviation of the growth rate from the closed form, of the batch size where "
                     "it is farthest out in tolerances",
         .paper = activation == "ReLU" ? "0% (closed form 1.7882 at B = 8, 1.4931 at B = 64)"
                                       : "0% (closed form 1.2000 at B = 8, 1.0164 at B = 64)",
         .shown = Shown::kPercent},
        std::move(agreements));
  }
}

double Depth(const CellRun& cell) {
  double depth = 0;
  return absl::SimpleAtod(cell.levels[0], &depth) ? depth : std::nan("");
}

Measure TrainAccuracy() {
  return RecentMean("train/accuracy", kLastSteps, 0.1);
}

// "0.49 [0.40, 0.59]".
std::string AccuracyText(const Sample& sample) {
  const auto statistics = common::DescribeSample(sample.values);
  const auto interval = common::MeanInterval(statistics, 1 - kLevel);
  return statistics.n < 2
             ? absl::StrFormat("%.2f", statistics.mean)
             : absl::StrFormat("%.2f [%.2f, %.2f]", statistics.mean, interval.low, interval.high);
}

void JudgeTraining(const PartRun& training, double rate, Verdicts& verdicts) {
  const double limit = 16 / std::log(rate);
  std::vector<Sample> deep;
  std::vector<Sample> shallow;
  std::vector<std::string> between;
  for (const CellRun& cell : training.cells) {
    const double depth = Depth(cell);
    Sample sample = Over(cell, TrainAccuracy(), absl::StrCat("depth ", cell.levels[0]));
    if (depth <= limit / 2) {
      shallow.push_back(std::move(sample));
    } else if (depth > kUntrainable) {
      deep.push_back(std::move(sample));
    } else {
      between.push_back(absl::StrCat("depth ", cell.levels[0], " is not judged (",
                                     std::isfinite(sample.values.empty() ? NAN : sample.values[0])
                                         ? AccuracyText(sample)
                                         : "no value",
                                     ")"));
    }
  }
  verdicts.AllAbove(
      {.id = "shallow",
       .statement = absl::StrFormat("Nets of at most %.0f layers (half of 16/ln(rate) = %.0f) "
                                    "train%s%s.",
                                    std::floor(limit / 2), limit, between.empty() ? "" : "; ",
                                    absl::StrJoin(between, ", ")),
       .source = "Yang et al. 2019",
       .quantity = "training accuracy of the last 20 steps, of the depth where it is least certain",
       .paper = absl::StrFormat("all up to %.0f layers train: ours is the weaker claim", limit)},
      std::move(shallow), kTrains, kClearlyTrained);
  const ClaimText untrainable = {.id = "deep",
                                 .statement = "Nets deeper than about 50 layers do not train.",
                                 .source = "Yang et al. 2019",
                                 .quantity =
                                     "training accuracy of the last 20 steps, of the "
                                     "depth where it is least certain",
                                 .paper = "none trains"};
  if (deep.empty()) {
    verdicts.Untested(untrainable, "Judged with depths above 50.",
                      "this preset has no depth above 50");
  } else {
    verdicts.AllBelow(untrainable, std::move(deep), kTrains, kClearlyUntrained);
  }
}

report::Chart GrowthChart(const PartRun& growth) {
  report::LineChart chart{.x = {.title = "layer (1: the first)"},
                          .y = {.title = "||dL/dz||^2 relative to the last hidden layer",
                                .scale = report::Scale::kLogarithmic}};
  for (const CellRun& cell : growth.cells) {
    const std::vector<std::string> layers = HiddenLayers(cell);
    report::Line line{.name = absl::StrCat("B = ", cell.levels[1])};
    report::Line theory{.name = absl::StrCat("B = ", cell.levels[1], ", closed form"),
                        .reference = true};
    std::vector<std::vector<double>> norms;
    for (const SeedRun& seed : cell.seeds) {
      norms.push_back(GradientNorms(seed, layers));
      if (norms.back().empty()) {
        norms.pop_back();
      }
    }
    const double rate = Expected(cell.levels[0], BatchOf(cell));
    // The closed form has no constant: drawn through the measured value at the middle of what is judged.
    const size_t anchor = layers.size() / 2;
    double at_anchor = 0;
    for (size_t i = 0; i < layers.size() && !norms.empty(); ++i) {
      std::vector<double> logs;
      for (const std::vector<double>& of_seed : norms) {
        logs.push_back(2 * std::log(of_seed[i] / of_seed.back()));
      }
      const auto statistics = common::DescribeSample(logs);
      line.x.push_back(static_cast<double>(i + 1));
      line.y.push_back(std::exp(statistics.mean));
      line.low.push_back(std::exp(statistics.minimum));
      line.high.push_back(std::exp(statistics.maximum));
      at_anchor = i == anchor ? statistics.mean : at_anchor;
    }
    for (size_t i = 0; i < line.x.size(); ++i) {
      theory.x.push_back(line.x[i]);
      theory.y.push_back(std::exp(
          at_anchor + std::log(rate) * (static_cast<double>(anchor) - static_cast<double>(i))));
    }
    chart.lines.push_back(std::move(line));
    chart.facets.push_back(cell.levels[0]);
    chart.lines.push_back(std::move(theory));
    chart.facets.push_back(cell.levels[0]);
  }
  return {.id = "explosion-depth",
          .title = "Gradient norm against depth",
          .caption =
              "Geometric mean over seeds, band from the smallest to the largest; dashed: the "
              "closed form through the middle layer. Ten "
              "layers at each end do not count.",
          .body = std::move(chart)};
}

report::Table GrowthTable(const PartRun& growth) {
  report::Table table{.id = "explosion-rates",
                      .title = "Growth per layer",
                      .columns = {"activation", "B", "measured", "closed form", "deviation",
                                  "95% interval of the deviation", "tolerance", "seeds"}};
  for (const CellRun& cell : growth.cells) {
    const std::vector<std::string> layers = HiddenLayers(cell);
    const Sample logs = Over(
        cell, {[&layers](const SeedRun& seed) { return LogRate(seed, layers); }, kLargestLogRatio});
    const auto statistics = common::DescribeSample(logs.values);
    const auto interval = common::MeanInterval(statistics, 1 - kLevel);
    const double expected = Expected(cell.levels[0], BatchOf(cell));
    const auto deviation = [expected](double log_rate) {
      return 100 * (std::exp(log_rate) / expected - 1);
    };
    table.rows.push_back(
        {cell.levels[0], cell.levels[1], std::exp(statistics.mean), expected,
         statistics.n > 0 ? absl::StrFormat("%+.2f%%", deviation(statistics.mean)) : "none",
         statistics.n > 1 ? absl::StrFormat("%+.2f%% to %+.2f%%", deviation(interval.low),
                                            deviation(interval.high))
                          : "none",
         absl::StrFormat("%g%%", 100 * Tolerance(BatchOf(cell))),
         static_cast<double>(statistics.n)});
  }
  return table;
}

report::Chart SkipChart(const PartRun& skips) {
  report::LineChart chart{.x = {.title = "layer (1: the first)"},
                          .y = {.title = "||dL/dz||^2 relative to the last hidden layer",
                                .scale = report::Scale::kLogarithmic}};
  for (const CellRun& cell : skips.cells) {
    const std::vector<std::string> layers = HiddenLayers(cell);
    report::Line line{.name = absl::StrCat(cell.levels[0], " skip connections")};
    for (size_t i = 0; i < layers.size(); ++i) {
      std::vector<double> logs;
      for (const SeedRun& seed : cell.seeds) {
        const std::vector<double> norms = GradientNorms(seed, layers);
        if (!norms.empty()) {
          logs.push_back(2 * std::log(norms[i] / norms.back()));
        }
      }
      const auto statistics = common::DescribeSample(logs);
      if (statistics.n > 0) {
        line.x.push_back(static_cast<double>(i + 1));
        line.y.push_back(std::exp(statistics.mean));
        line.low.push_back(std::exp(statistics.minimum));
        line.high.push_back(std::exp(statistics.maximum));
      }
    }
    chart.lines.push_back(std::move(line));
  }
  return {.id = "explosion-skips",
          .title = "What skip connections change",
          .caption =
              "ReLU, batch 64. A straight line is exponential growth. Geometric mean over seeds.",
          .body = std::move(chart)};
}

report::Chart TrainingChart(const PartRun& training) {
  report::DotChart chart{.x = {.title = "hidden layers"},
                         .y = {.title = "training accuracy of the last 20 steps"}};
  for (const CellRun& cell : training.cells) {
    chart.dots.push_back(Dot(cell.levels[0], "batch norm, ReLU", Over(cell, TrainAccuracy())));
  }
  return {.id = "explosion-training",
          .title = "Which depths train",
          .caption =
              "Mean with 95% interval over seeds, single seeds drawn small. 0.5 counts as trained; "
              "a diverged net as 0.1.",
          .body = std::move(chart)};
}

}  // namespace

void AnalyzeExplosion(const Run& run, report::Report& report) {
  const PartRun& growth = run.Get("growth");
  const PartRun& skips = run.Get("skips");
  const PartRun& training = run.Get("training");
  Verdicts verdicts;
  JudgeGrowth(growth, verdicts);
  const std::vector<std::string> layers = HiddenLayers(skips.Cell({"without"}));
  verdicts.Above(
      {.id = "skips",
       .statement =
           "With identity skips the total growth over the depth is at least 1,000 times smaller.",
       .source = "this study: skip connections are not analysed in the paper",
       .quantity = "growth of ||dL/dz||^2 from the last to the first layer, without over with "
                   "skips",
       .shown = Shown::kTimes},
      Difference(skips.Cell({"without"}), skips.Cell({"with"}),
                 {[&layers](const SeedRun& seed) { return TotalLog10Growth(seed, layers); },
                  std::numeric_limits<double>::infinity()}),
      3, 3.5);
  int batch = 64;
  for (const Part& part : run.plan.parts) {
    batch = part.name == training.name ? part.base.batch_size() : batch;
  }
  JudgeTraining(training, ReluGrowth(std::max(batch, 4)), verdicts);
  report.claims = verdicts.Judge();
  report.sections.push_back({.title = "Growth at initialization",
                             .text = "",
                             .charts = {GrowthChart(growth)},
                             .tables = {GrowthTable(growth)}});
  report.sections.push_back(
      {.title = "Skip connections", .text = "", .charts = {SkipChart(skips)}});
  std::vector<report::Chart> charts = {TrainingChart(training)};
  for (report::Chart& chart : TrainingCurves(training)) {
    charts.push_back(std::move(chart));
  }
  report.sections.push_back({.title = "Trainable depth", .text = "", .charts = std::move(charts)});
}

}  // namespace normlab::client::studies
