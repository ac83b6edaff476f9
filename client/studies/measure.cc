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

// Steps that all seeds have, in at most `bins` groups of neighbours.
std::vector<std::vector<int64_t>> CommonSteps(const CellRun& cell,
                                              absl::string_view series,
                                              int bins) {
  std::vector<int64_t> common;
  bool first = true;
  for (const SeedRun& seed : cell.seeds) {
    const Points* points = seed.Find(series);
    if (points == nullptr) {
      continue;  // a job that has not begun or failed: named in the warnings
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
    chart.lines.push_back(Curve(cell, series, cell.Name()));
  }
  return {.id = absl::StrCat(part.name, "-", title),
          .title = absl::StrCat(absl::string_view(title) == "loss" ? "Training loss"
                                                                   : "Training accuracy"),
          .caption = "Mean over seeds; the band goes from the smallest to the largest seed.",
          .body = std::move(chart)};
}

}  // namespace

double FinalAccuracy(const SeedRun& seed, absl::string_view series, double chance) {
  if (seed.diverged()) {
    return chance;
  }
  const Points* points = seed.Find(series);
  return seed.has_result() && points != nullptr && !points->values.empty() ? points->values.back()
                                                                           : kNan;
}

double RecentMean(const SeedRun& seed, absl::string_view series, int count, double worst) {
  if (seed.diverged()) {
    return worst;
  }
  std::vector<double> values = Values(seed, series, 0);
  if (!seed.has_result() || values.empty()) {
    return kNan;
  }
  if (values.size() > static_cast<size_t>(count)) {
    values.erase(values.begin(), values.end() - count);
  }
  return MeanOf(values);
}

bool LeftPlateau(const SeedRun& seed, double level) {
  const std::vector<double> losses = Values(seed, "train/loss", 0);
  const size_t window = std::min<size_t>(kPlateauWindow, losses.size());
  for (size_t end = window; window > 0 && end <= losses.size(); ++end) {
    const std::vector<double> part(losses.begin() + static_cast<int64_t>(end - window),
                                   losses.begin() + static_cast<int64_t>(end));
    if (MeanOf(part) < level) {
      return true;
    }
  }
  return false;
}

double MeanLog10(const SeedRun& seed, absl::string_view series, int64_t from) {
  std::vector<double> values = Values(seed, series, from);
  double largest = 0;
  for (const double value : values) {
    largest = std::isfinite(value) ? std::max(largest, value) : largest;
  }
  for (double& value : values) {
    value = std::isinf(value) ? std::log10(largest) + kLargestLogRatio : std::log10(value);
  }
  // A logarithm of 0 says nothing about the others.
  values.erase(
      std::remove_if(values.begin(), values.end(), [](double v) { return !std::isfinite(v); }),
      values.end());
  return MeanOf(values);
}

double Median(const SeedRun& seed, absl::string_view series, int64_t from) {
  std::vector<double> values = Values(seed, series, from);
  if (values.empty()) {
    return kNan;
  }
  const auto middle = values.begin() + static_cast<int64_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double Mean(const SeedRun& seed, absl::string_view series, int64_t from) {
  return MeanOf(Values(seed, series, from));
}

double LogRatio(double a, double b) {
  if (std::isnan(a) || std::isnan(b) || (std::isinf(a) && std::isinf(b))) {
    return kNan;
  }
  if (a <= 0 && b <= 0) {
    return a == b ? 0 : kNan;
  }
  const double ratio = std::isinf(a) || b <= 0   ? kInfinity
                       : std::isinf(b) || a <= 0 ? -kInfinity
                                                 : std::log10(a / b);
  return std::clamp(ratio, -kLargestLogRatio, kLargestLogRatio);
}

Sample Over(const CellRun& cell, const Measure& measure, std::string name) {
  Sample sample{.name = std::move(name)};
  for (const SeedRun& seed : cell.seeds) {
    sample.values.push_back(measure(seed));
    sample.diverged += seed.diverged() ? 1 : 0;
  }
  return sample;
}

Sample Difference(const CellRun& minuend,
                  const CellRun& subtrahend,
                  const Measure& measure,
                  std::string name) {
  Sample a = Over(minuend, measure, std::move(name));
  const Sample b = Over(subtrahend, measure);
  for (size_t i = 0; i < a.values.size(); ++i) {
    a.values[i] -= b.values[i];
  }
  a.diverged += b.diverged;
  return a;
}

Sample Ratio(const CellRun& numerator,
             const CellRun& denominator,
             const Measure& measure,
             std::string name) {
  Sample a = Over(numerator, measure, std::move(name));
  const Sample b = Over(denominator, measure);
  for (size_t i = 0; i < a.values.size(); ++i) {
    a.values[i] = LogRatio(a.values[i], b.values[i]);
  }
  a.diverged += b.diverged;
  return a;
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
      if (const Points* points = seed.Find(series)) {
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

report::DotChart::Dot Dot(std::string category, std::string group, const Sample& sample) {
  const auto statistics = common::DescribeSample(sample.values);
  report::DotChart::Dot dot{.category = std::move(category),
                            .group = std::move(group),
                            .value = statistics.n > 0 ? statistics.mean : kNan};
  if (statistics.n >= 2) {
    const auto interval = common::MeanInterval(statistics, 1 - kLevel);
    dot.interval = report::Interval{interval.low, interval.high};
  }
  for (const double value : sample.values) {
    if (!std::isnan(value)) {
      dot.seeds.push_back(value);
    }
  }
  return dot;
}

std::vector<report::Table::Value> SummaryCells(const Sample& sample) {
  const auto statistics = common::DescribeSample(sample.values);
  const auto interval = common::MeanInterval(statistics, 1 - kLevel);
  return {statistics.n > 0 ? statistics.mean : kNan,
          statistics.n >= 2 ? absl::StrFormat("%.4g to %.4g", interval.low, interval.high)
                            : std::string("none"),
          static_cast<double>(statistics.n), static_cast<double>(sample.diverged)};
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
