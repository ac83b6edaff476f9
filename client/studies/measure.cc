#include "client/studies/measure.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
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

}  // namespace normlab::client::studies
