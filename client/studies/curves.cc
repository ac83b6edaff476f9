#include "client/studies/curves.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <numeric>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "common/statistics.h"

namespace normlab::client::studies {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

bool Succeeded(const SeedRun& seed) {
  return seed.has_result() && !seed.diverged();
}

// Steps that all of them have, in at most `bins` groups of neighbours.
std::vector<std::vector<int64_t>> CommonSteps(const std::vector<const Points*>& curves, int bins) {
  std::vector<int64_t> common;
  for (size_t i = 0; i < curves.size(); ++i) {
    const std::vector<int64_t>& steps = curves[i]->steps;
    std::vector<int64_t> both;
    std::set_intersection(i == 0 ? steps.begin() : common.begin(),
                          i == 0 ? steps.end() : common.end(), steps.begin(), steps.end(),
                          std::back_inserter(both));
    common = std::move(both);
  }
  const size_t groups = std::min(common.size(), static_cast<size_t>(bins));
  std::vector<std::vector<int64_t>> result(groups);
  for (size_t i = 0; i < common.size(); ++i) {
    result[i * groups / common.size()].push_back(common[i]);
  }
  return result;
}

// The mean of a seed's values at these steps.
double MeanAt(const Points& points, const std::vector<int64_t>& steps) {
  double sum = 0;
  for (const int64_t step : steps) {
    const auto at = std::lower_bound(points.steps.begin(), points.steps.end(), step);
    sum += points.values[static_cast<size_t>(at - points.steps.begin())];
  }
  return sum / static_cast<double>(steps.size());
}

double MeanStep(const std::vector<int64_t>& steps) {
  return std::accumulate(steps.begin(), steps.end(), 0.0) / static_cast<double>(steps.size());
}

// Their mean against steps, with a band from the smallest to the largest.
report::Line MeanCurve(const std::vector<const Points*>& curves, std::string name, int bins) {
  report::Line line{.name = std::move(name)};
  for (const std::vector<int64_t>& steps : CommonSteps(curves, bins)) {
    std::vector<double> values;
    for (const Points* curve : curves) {
      values.push_back(MeanAt(*curve, steps));
    }
    line.x.push_back(MeanStep(steps));
    line.y.push_back(std::accumulate(values.begin(), values.end(), 0.0) /
                     static_cast<double>(values.size()));
    const auto [low, high] = std::minmax_element(values.begin(), values.end());
    line.low.push_back(*low);
    line.high.push_back(*high);
  }
  return line;
}

report::Chart CurveChart(const PartRun& part,
                         const char* series,
                         const char* title,
                         const char* y) {
  report::LineChart chart{.x = {.title = "step"}, .y = {.title = y}};
  for (const CellRun& cell : part.cells) {
    AddCurves(cell, series, cell.Name(), chart);
  }
  return {.id = absl::StrCat(part.name, "-", title),
          .title = absl::StrCat("Training ", title),
          .caption = kCurvesCaption,
          .body = std::move(chart)};
}

const char* StateText(const SeedRun& seed) {
  switch (seed.job.state()) {
    case v1::Job::DIVERGED:
      return "diverged";
    case v1::Job::FAILED:
      return "failed";
    case v1::Job::CANCELLED:
      return "cancelled";
    default:
      return "not over";
  }
}

}  // namespace

report::Line Curve(const CellRun& cell, absl::string_view series, std::string name, int bins) {
  std::vector<const Points*> curves;
  for (const SeedRun& seed : cell.seeds) {
    if (const Points* points = seed.Find(series); points != nullptr && Succeeded(seed)) {
      curves.push_back(points);
    }
  }
  return MeanCurve(curves, std::move(name), bins);
}

void AddCurves(const CellRun& cell,
               absl::string_view series,
               const std::string& name,
               report::LineChart& chart,
               const std::string& facet,
               int bins) {
  std::vector<report::Line> lines = {Curve(cell, series, name, bins)};
  for (const SeedRun& seed : cell.seeds) {
    const Points* points = seed.Find(series);
    if (points == nullptr || Succeeded(seed)) {
      continue;
    }
    lines.push_back(MeanCurve(
        {points}, absl::StrCat(name, ", seed ", seed.seed, " (", StateText(seed), ")"), bins));
    lines.back().low.clear();
    lines.back().high.clear();
  }
  for (report::Line& line : lines) {
    chart.lines.push_back(std::move(line));
    if (!facet.empty()) {
      chart.facets.push_back(facet);
    }
  }
}

report::Line Band(const CellRun& cell,
                  absl::string_view low,
                  absl::string_view high,
                  std::string name,
                  int bins) {
  const report::Line lower = Curve(cell, low, "", bins);
  report::Line line = Curve(cell, high, std::move(name), bins);
  line.high = line.y;
  line.low = lower.y;
  line.low.resize(line.high.size(), kNan);
  for (size_t i = 0; i < line.y.size(); ++i) {
    line.y[i] = line.low[i] > 0 && line.high[i] > 0 ? std::sqrt(line.low[i] * line.high[i])
                                                    : (line.low[i] + line.high[i]) / 2;
  }
  return line;
}

void AddStarts(const Starts& starts, report::LineChart& chart) {
  int64_t last = 0;
  for (const auto& [seed, start] : starts) {
    last = std::max(last, start);
  }
  double low = kInfinity;
  double high = -kInfinity;
  for (const report::Line& line : chart.lines) {
    for (const std::vector<double>* values : {&line.y, &line.low, &line.high}) {
      for (const double value : *values) {
        if (std::isfinite(value) && (chart.y.scale == report::Scale::kLinear || value > 0)) {
          low = std::min(low, value);
          high = std::max(high, value);
        }
      }
    }
  }
  if (last == 0 || !(low < high)) {
    return;
  }
  const auto at = static_cast<double>(last);
  const report::Line mark{
      .name = "judged from here on", .x = {at, at}, .y = {low, high}, .reference = true};
  const std::set<std::string> facets(chart.facets.begin(), chart.facets.end());
  for (const std::string& facet : facets) {
    chart.lines.push_back(mark);
    chart.facets.push_back(facet);
  }
  if (facets.empty()) {
    chart.lines.push_back(mark);
  }
}

std::string StartsCaption(const Starts& starts) {
  int64_t first = std::numeric_limits<int64_t>::max();
  int64_t last = 0;
  for (const auto& [seed, start] : starts) {
    first = std::min(first, start);
    last = std::max(last, start);
  }
  return last == 0 ? ""
                   : absl::StrCat(
                         " The dashed line: both nets of every seed have left the plateau "
                         "and are judged (those of the first seed from step ",
                         first, " on).");
}

report::DotChart::Dot Dot(std::string category, std::string group, const Sample& sample) {
  const auto statistics = common::DescribeSample(sample.values);
  report::DotChart::Dot dot{.category = std::move(category),
                            .group = std::move(group),
                            .value = statistics.n > 0 ? statistics.mean : kNan};
  const auto interval = common::MeanInterval(statistics, 1 - kLevel);
  if (std::isfinite(interval.low) && std::isfinite(interval.high)) {
    dot.interval = report::Interval{interval.low, interval.high};
  }
  for (const double value : sample.values) {
    if (!std::isnan(value)) {
      dot.seeds.push_back(value);
    }
  }
  return dot;
}

std::vector<report::Table::Value> SummaryCells(const Sample& sample, bool logarithms) {
  const common::TTest test =
      common::OneSampleTTest(sample.values, 0, 1 - kLevel, sample.least_deviation());
  const auto shown = [logarithms](double value) {
    return logarithms ? std::pow(10, value) : value;
  };
  const bool bounded = std::isfinite(test.interval.low) && std::isfinite(test.interval.high);
  return {test.n > 0 ? shown(test.mean) : kNan,
          bounded
              ? absl::StrFormat("%.4g to %.4g", shown(test.interval.low), shown(test.interval.high))
              : std::string("none"),
          static_cast<double>(test.n), static_cast<double>(sample.diverged())};
}

std::vector<std::string> SummaryColumns(std::vector<std::string> first, const std::string& value) {
  first.push_back(value);
  first.emplace_back("95% interval");
  first.emplace_back("seeds");
  first.emplace_back("diverged");
  return first;
}

std::vector<report::Chart> TrainingCurves(const PartRun& part, bool accuracy) {
  std::vector<report::Chart> charts = {CurveChart(part, "train/loss", "loss", "loss")};
  if (accuracy) {
    charts.push_back(CurveChart(part, "train/accuracy", "accuracy", "accuracy"));
  }
  return charts;
}

}  // namespace normlab::client::studies
