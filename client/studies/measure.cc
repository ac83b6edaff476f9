#include "client/studies/measure.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"

#include "common/statistics.h"

namespace normlab::client::studies {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr int kPlateauWindow = 20;

// Values from step `from` on that are not NaN; infinities stay.
std::vector<double> Values(const SeedRun& seed, absl::string_view series, int64_t from) {
  std::vector<double> values;
  if (const Points* points = seed.Find(series)) {
    for (size_t i = 0; i < points->steps.size(); ++i) {
      if (points->steps[i] >= from && !std::isnan(points->values[i])) {
        values.push_back(points->values[i]);
      }
    }
  }
  return values;
}

double MeanOf(const std::vector<double>& values) {
  return values.empty() ? kNan
                        : std::accumulate(values.begin(), values.end(), 0.0) /
                              static_cast<double>(values.size());
}

// fc2 before fc10: runs of digits compare as numbers.
bool NaturalLess(const std::string& a, const std::string& b) {
  size_t i = 0;
  size_t j = 0;
  while (i < a.size() && j < b.size()) {
    if (absl::ascii_isdigit(static_cast<unsigned char>(a[i])) &&
        absl::ascii_isdigit(static_cast<unsigned char>(b[j]))) {
      const size_t end_a = std::min(a.find_first_not_of("0123456789", i), a.size());
      const size_t end_b = std::min(b.find_first_not_of("0123456789", j), b.size());
      int64_t x = 0;
      int64_t y = 0;
      if (!absl::SimpleAtoi(a.substr(i, end_a - i), &x) ||
          !absl::SimpleAtoi(b.substr(j, end_b - j), &y)) {
        return a < b;
      }
      if (x != y) {
        return x < y;
      }
      i = end_a;
      j = end_b;
    } else if (a[i] != b[j]) {
      return a[i] < b[j];
    } else {
      ++i;
      ++j;
    }
  }
  return a.size() - i < b.size() - j;
}

bool Complete(const SeedRun& seed) {
  return seed.has_result() && !seed.diverged();
}

// Steps that all seeds that succeeded have, in at most `bins` groups of neighbours.
std::vector<std::vector<int64_t>> CommonSteps(const CellRun& cell,
                                              absl::string_view series,
                                              int bins) {
  std::vector<int64_t> common;
  bool first = true;
  for (const SeedRun& seed : cell.seeds) {
    const Points* points = Complete(seed) ? seed.Find(series) : nullptr;
    if (points == nullptr) {
      continue;
    }
    if (first) {
      common = points->steps;
      first = false;
      continue;
    }
    std::vector<int64_t> both;
    std::set_intersection(common.begin(), common.end(), points->steps.begin(), points->steps.end(),
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

report::Chart CurveChart(const PartRun& part,
                         const char* series,
                         const char* title,
                         const char* y) {
  report::LineChart chart{.x = {.title = "step"}, .y = {.title = y}};
  for (const CellRun& cell : part.cells) {
    AddCurves(cell, series, cell.Name(), chart);
  }
  return {.id = absl::StrCat(part.name, "-", title),
          .title = absl::StrCat(absl::string_view(title) == "loss" ? "Training loss"
                                                                   : "Training accuracy"),
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

double ValueOf(const SeedRun& seed, const Measure& measure) {
  return !seed.has_result() ? kNan : seed.diverged() ? measure.worst : measure.of(seed);
}

Measure FinalAccuracy(std::string series, double chance) {
  return {[series = std::move(series)](const SeedRun& seed) {
            const Points* points = seed.Find(series);
            return points != nullptr && !points->values.empty() ? points->values.back() : kNan;
          },
          chance};
}

Measure FinalLoss(std::string series) {
  return FinalAccuracy(std::move(series), kInfinity);
}

Measure RecentMean(std::string series, int count, double worst) {
  return {[series = std::move(series), count](const SeedRun& seed) {
            std::vector<double> values = Values(seed, series, 0);
            if (values.size() > static_cast<size_t>(count)) {
              values.erase(values.begin(), values.end() - count);
            }
            return MeanOf(values);
          },
          worst};
}

std::optional<int64_t> PlateauEnd(const SeedRun& seed, double level) {
  const Points* loss = seed.Find("train/loss");
  if (loss == nullptr) {
    return std::nullopt;
  }
  const size_t window = std::min<size_t>(kPlateauWindow, loss->values.size());
  for (size_t end = window; window > 0 && end <= loss->values.size(); ++end) {
    const std::vector<double> part(loss->values.begin() + static_cast<int64_t>(end - window),
                                   loss->values.begin() + static_cast<int64_t>(end));
    if (MeanOf(part) < level) {  // false with a NaN
      return loss->steps[end - 1];
    }
  }
  return std::nullopt;
}

Starts BothLeftPlateau(const CellRun& a, const CellRun& b, double level) {
  Starts starts;
  for (const CellRun* cell : {&a, &b}) {
    for (const SeedRun& seed : cell->seeds) {
      int64_t& start = starts[seed.seed];
      start = std::max(start, PlateauEnd(seed, level).value_or(0));
    }
  }
  return starts;
}

int64_t StartOf(const Starts& starts, const SeedRun& seed) {
  const auto found = starts.find(seed.seed);
  return found == starts.end() ? 0 : found->second;
}

std::vector<double> Log10Values(const SeedRun& seed, absl::string_view series, int64_t from) {
  std::vector<double> values = Values(seed, series, from);
  double largest = 0;
  for (const double value : values) {
    largest = std::isfinite(value) ? std::max(largest, value) : largest;
  }
  // A logarithm of 0 says nothing about the others.
  values.erase(
      std::remove_if(values.begin(), values.end(), [](double value) { return value <= 0; }),
      values.end());
  for (double& value : values) {
    value = !std::isinf(value) ? std::log10(value)
            : largest > 0      ? std::log10(largest) + kLargestLogRatio
                               : kInfinity;
  }
  return values;
}

double MeanLog10(const SeedRun& seed, absl::string_view series, int64_t from) {
  return MeanOf(Log10Values(seed, series, from));
}

double Median(const SeedRun& seed, absl::string_view series, int64_t from) {
  return common::Quantile(Values(seed, series, from), 0.5);
}

double Mean(const SeedRun& seed, absl::string_view series, int64_t from) {
  return MeanOf(Values(seed, series, from));
}

double LogRatio(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) {
    return kNan;
  }
  if (std::isinf(a) && std::isinf(b)) {
    return 0;
  }
  if (a <= 0 && b <= 0) {
    return a == b ? 0 : kNan;
  }
  const double ratio = std::isinf(a) || b <= 0   ? kInfinity
                       : std::isinf(b) || a <= 0 ? -kInfinity
                                                 : std::log10(a / b);
  return std::clamp(ratio, -kLargestLogRatio, kLargestLogRatio);
}

double LogMinus(double a, double b) {
  return a == b ? 0 : std::clamp(a - b, -kLargestLogRatio, kLargestLogRatio);
}

double Minus(double a, double b) {
  return std::isinf(a) || std::isinf(b) ? LogMinus(a, b) : a - b;
}

Sample Over(const CellRun& cell, const Measure& measure, std::string name) {
  Sample sample{.name = std::move(name)};
  for (const SeedRun& seed : cell.seeds) {
    sample.values.push_back(ValueOf(seed, measure));
    sample.jobs.insert(&seed);
  }
  return sample;
}

Sample Combine(Sample a, const Sample& b, double (*combine)(double, double)) {
  for (size_t i = 0; i < a.values.size(); ++i) {
    a.values[i] = i < b.values.size() ? combine(a.values[i], b.values[i]) : kNan;
  }
  a.jobs.insert(b.jobs.begin(), b.jobs.end());
  a.grid_step = std::hypot(a.grid_step, b.grid_step);
  return a;
}

Sample Difference(const CellRun& minuend,
                  const CellRun& subtrahend,
                  const Measure& measure,
                  std::string name) {
  return Combine(Over(minuend, measure, std::move(name)), Over(subtrahend, measure), Minus);
}

Sample Ratio(const CellRun& numerator,
             const CellRun& denominator,
             const Measure& measure,
             std::string name) {
  return Combine(Over(numerator, measure, std::move(name)), Over(denominator, measure), LogRatio);
}

std::vector<std::string> LayersWith(const CellRun& cell, absl::string_view quantity) {
  std::set<std::string> names;
  const std::string suffix = absl::StrCat("/", quantity);
  for (const SeedRun& seed : cell.seeds) {
    for (const auto& [series, points] : seed.series) {
      absl::string_view name = series;
      if (absl::ConsumePrefix(&name, "layers/") && absl::ConsumeSuffix(&name, suffix)) {
        names.emplace(name);
      }
    }
  }
  std::vector<std::string> sorted(names.begin(), names.end());
  std::sort(sorted.begin(), sorted.end(), NaturalLess);
  // The linear layer to the classes comes last, whatever it is called.
  std::stable_partition(sorted.begin(), sorted.end(), [](const std::string& name) {
    return name != "head" && name != "classifier";
  });
  return sorted;
}

std::string LayerSeries(absl::string_view layer, absl::string_view quantity) {
  return absl::StrCat("layers/", layer, "/", quantity);
}

report::Line Curve(const CellRun& cell, absl::string_view series, std::string name, int bins) {
  report::Line line{.name = std::move(name)};
  for (const std::vector<int64_t>& steps : CommonSteps(cell, series, bins)) {
    std::vector<double> values;
    for (const SeedRun& seed : cell.seeds) {
      const Points* points = Complete(seed) ? seed.Find(series) : nullptr;
      if (points != nullptr) {
        values.push_back(MeanAt(*points, steps));
      }
    }
    line.x.push_back(MeanStep(steps));
    line.y.push_back(MeanOf(values));
    const auto [low, high] = std::minmax_element(values.begin(), values.end());
    line.low.push_back(*low);
    line.high.push_back(*high);
  }
  return line;
}

void AddCurves(const CellRun& cell,
               absl::string_view series,
               const std::string& name,
               report::LineChart& chart,
               const std::string& facet,
               int bins) {
  std::vector<report::Line> lines = {Curve(cell, series, name, bins)};
  for (const SeedRun& seed : cell.seeds) {
    if (Complete(seed) || seed.Find(series) == nullptr) {
      continue;
    }
    CellRun alone;
    alone.seeds.push_back(seed);
    alone.seeds.front().job.set_state(v1::Job::SUCCEEDED);
    report::Line line = Curve(
        alone, series, absl::StrCat(name, ", seed ", seed.seed, " (", StateText(seed), ")"), bins);
    line.low.clear();
    line.high.clear();
    lines.push_back(std::move(line));
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
