#include "common/statistics.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>

#include <boost/math/distributions/students_t.hpp>

namespace normlab::common {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The library throws by default; out of range it shall answer NaN or infinity instead.
using Policy = boost::math::policies::policy<
    boost::math::policies::domain_error<boost::math::policies::ignore_error>,
    boost::math::policies::pole_error<boost::math::policies::ignore_error>,
    boost::math::policies::overflow_error<boost::math::policies::ignore_error>,
    boost::math::policies::evaluation_error<boost::math::policies::ignore_error>>;
using Student = boost::math::students_t_distribution<double, Policy>;

// Fraction of Student's distribution below t.
double StudentBelow(double t, double degrees_of_freedom) {
  if (std::isinf(t)) {
    return t > 0 ? 1 : 0;
  }
  return boost::math::cdf(Student(degrees_of_freedom), t);
}

std::vector<double> Differences(absl::Span<const double> a, absl::Span<const double> b) {
  std::vector<double> differences(std::min(a.size(), b.size()));
  for (size_t i = 0; i < differences.size(); ++i) {
    differences[i] = a[i] - b[i];
  }
  return differences;
}

Interval Around(double mean, double half_width) {
  return {mean - half_width, mean + half_width};
}

// Fills in everything that follows from estimate, error and degrees of freedom.
void Conclude(double expected, double confidence, TTest& test) {
  const double difference = test.mean - expected;
  if (!std::isfinite(test.mean) || !(test.degrees_of_freedom > 0) ||
      std::isnan(test.standard_error)) {
    test.statistic = kNan;
    test.interval = {kNan, kNan};
    return;
  }
  if (test.standard_error > 0) {
    test.statistic = difference / test.standard_error;
  } else {
    test.statistic = difference == 0 ? 0 : std::copysign(kInfinity, difference);
  }
  test.p_less = StudentBelow(test.statistic, test.degrees_of_freedom);
  // Not 1 - p_less, which loses what is small.
  test.p_greater = StudentBelow(-test.statistic, test.degrees_of_freedom);
  test.p_two_sided = std::min(1.0, 2 * std::min(test.p_less, test.p_greater));
  test.interval = Around(test.mean, test.standard_error * StudentQuantile((1 + confidence) / 2,
                                                                          test.degrees_of_freedom));
}

}  // namespace

SampleStatistics DescribeSample(absl::Span<const double> values) {
  SampleStatistics sample;
  sample.mean = sample.standard_deviation = sample.minimum = sample.maximum = kNan;
  double sum = 0;
  for (const double value : values) {
    if (std::isnan(value)) {
      continue;
    }
    sum += value;
    sample.minimum = sample.n == 0 ? value : std::min(sample.minimum, value);
    sample.maximum = sample.n == 0 ? value : std::max(sample.maximum, value);
    ++sample.n;
  }
  if (sample.n == 0) {
    return sample;
  }
  const auto n = static_cast<double>(sample.n);
  // Equal values have exactly this mean and no deviation, whatever rounding does to their sum.
  sample.mean = sample.minimum == sample.maximum ? sample.minimum : sum / n;
  if (sample.n < 2) {
    return sample;
  }
  double squares = 0;
  double rest = 0;  // what rounding left in the mean
  for (const double value : values) {
    if (!std::isnan(value)) {
      squares += (value - sample.mean) * (value - sample.mean);
      rest += value - sample.mean;
    }
  }
  sample.standard_deviation = std::sqrt(std::max(0.0, squares - rest * rest / n) / (n - 1));
  if (!std::isfinite(squares)) {
    sample.standard_deviation = kNan;
  }
  return sample;
}

Interval MeanInterval(const SampleStatistics& sample, double confidence) {
  if (sample.n < 2) {
    return {kNan, kNan};
  }
  const auto n = static_cast<double>(sample.n);
  return Around(sample.mean, StudentQuantile((1 + confidence) / 2, n - 1) *
                                 sample.standard_deviation / std::sqrt(n));
}

TTest OneSampleTTest(absl::Span<const double> values,
                     double expected,
                     double confidence,
                     double least_deviation) {
  const SampleStatistics sample = DescribeSample(values);
  const auto n = static_cast<double>(sample.n);
  TTest test;
  test.n = sample.n;
  test.mean = sample.mean;
  test.standard_error = std::max(sample.standard_deviation, least_deviation) / std::sqrt(n);
  test.degrees_of_freedom = std::max(0.0, n - 1);
  Conclude(expected, confidence, test);
  return test;
}

TTest PairedTTest(absl::Span<const double> a,
                  absl::Span<const double> b,
                  double confidence,
                  double expected) {
  return OneSampleTTest(Differences(a, b), expected, confidence);
}

EquivalenceTest TestEquivalence(absl::Span<const double> differences, double margin, double alpha) {
  const double confidence = 1 - 2 * alpha;
  const TTest lower = OneSampleTTest(differences, -margin, confidence);
  const TTest upper = OneSampleTTest(differences, margin, confidence);
  EquivalenceTest test;
  test.n = lower.n;
  test.mean = lower.mean;
  test.p_above_lower = lower.p_greater;
  test.p_below_upper = upper.p_less;
  test.p_value = std::max(lower.p_greater, upper.p_less);
  test.interval = lower.interval;
  test.equivalent = test.p_value < alpha;
  return test;
}

std::vector<double> HolmAdjust(absl::Span<const double> p_values) {
  std::vector<double> p(p_values.begin(), p_values.end());
  std::replace_if(
      p.begin(), p.end(), [](double value) { return std::isnan(value); }, 1.0);
  std::vector<size_t> order(p.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t i, size_t j) { return p[i] < p[j]; });
  std::vector<double> adjusted(p.size());
  double largest = 0;
  for (size_t rank = 0; rank < order.size(); ++rank) {
    const auto remaining = static_cast<double>(order.size() - rank);
    largest = std::max(largest, std::min(1.0, remaining * p[order[rank]]));
    adjusted[order[rank]] = largest;
  }
  return adjusted;
}

double Quantile(absl::Span<const double> values, double q) {
  std::vector<double> sorted;
  std::copy_if(values.begin(), values.end(), std::back_inserter(sorted),
               [](double value) { return !std::isnan(value); });
  if (sorted.empty() || !(q >= 0 && q <= 1)) {
    return kNan;
  }
  std::sort(sorted.begin(), sorted.end());
  const double position = static_cast<double>(sorted.size() - 1) * q;
  const auto below = static_cast<size_t>(position);
  const double fraction = position - static_cast<double>(below);
  if (fraction == 0 || sorted[below] == sorted[below + 1]) {
    return sorted[below];
  }
  return sorted[below] + fraction * (sorted[below + 1] - sorted[below]);
}

double StudentQuantile(double p, double degrees_of_freedom) {
  if (!(p > 0 && p < 1) || !(degrees_of_freedom > 0)) {
    return kNan;
  }
  return boost::math::quantile(Student(degrees_of_freedom), p);
}

}  // namespace normlab::common
