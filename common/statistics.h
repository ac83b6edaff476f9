#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

// Statistics of a few runs: what differs between seeds, with intervals and tests. A NaN stands for a
// run without a value: it is left out and `n` says how many were not, so that a caller can show what
// is missing. All functions are pure and thread-safe; results that need more values than there are
// come as NaN (p values as 1: nothing is shown), never as an error.
namespace normlab::common {

struct Interval {
  double low = 0;
  double high = 0;
};

// Of a sample. NaN where n is too small.
struct SampleStatistics {
  int64_t n = 0;                  // values that are not NaN
  double mean = 0;                // from one value on
  double standard_deviation = 0;  // of a sample (n - 1), from two values on
  double minimum = 0;
  double maximum = 0;
};
SampleStatistics DescribeSample(absl::Span<const double> values);

// Student's t interval of the mean: mean -+ t(1 - (1 - confidence) / 2, n - 1) sd / sqrt(n). NaN for
// fewer than two values. `confidence` lies in (0, 1).
Interval MeanInterval(const SampleStatistics& sample, double confidence);

// A t test of a mean, or of a difference of means, against `expected`.
struct TTest {
  int64_t n = 0;                  // values, or pairs, or values of both samples
  double mean = 0;                // the estimate: the mean, or the difference
  double standard_error = 0;      // of the estimate
  double statistic = 0;           // (mean - expected) / standard_error
  double degrees_of_freedom = 0;  // n - 1
  double p_two_sided = 1;         // of no difference from `expected`
  double p_greater = 1;           // small: the mean lies above `expected`
  double p_less = 1;              // small: the mean lies below it
  Interval interval;              // two-sided, of the mean
};

// One sample. With no variance at all the p values are 0 and 1 by the sign of the difference, unless
// the standard deviation is known to be at least `least_deviation` (the rounding of values that lie on
// a grid), which then stands in for a smaller one.
TTest OneSampleTTest(absl::Span<const double> values,
                     double expected,
                     double confidence,
                     double least_deviation = 0);

// a[i] - b[i] over the pairs that have both, against `expected`: runs of the same seed. The spans are
// of one length.
TTest PairedTTest(absl::Span<const double> a,
                  absl::Span<const double> b,
                  double confidence,
                  double expected = 0);

// Two one-sided tests (Schuirmann 1987) that a mean lies within -+ margin: equivalent at level alpha
// when both reject, which is when the interval of confidence 1 - 2 alpha lies inside.
struct EquivalenceTest {
  int64_t n = 0;
  double mean = 0;
  double p_value = 1;        // the larger of the two
  double p_above_lower = 1;  // small: the mean lies above -margin ("does not hurt")
  double p_below_upper = 1;  // small: the mean lies below +margin
  Interval interval;         // of confidence 1 - 2 alpha
  bool equivalent = false;   // p_value < alpha
};
// `margin` is positive.
EquivalenceTest TestEquivalence(absl::Span<const double> differences, double margin, double alpha);

// Holm's step-down adjustment (1979) of the p values of one family, in their order: reject where the
// adjusted value is below the level, and the chance of any false rejection stays below it. NaN counts
// as 1.
std::vector<double> HolmAdjust(absl::Span<const double> p_values);

// The q-quantile, q in [0, 1], interpolated linearly between order statistics at (n - 1) q (Hyndman
// and Fan's type 7, NumPy's and R's default). NaN for no value.
double Quantile(absl::Span<const double> values, double q);

// The t of Student's distribution below which a fraction `p` in (0, 1) lies; `degrees_of_freedom` is
// positive.
double StudentQuantile(double p, double degrees_of_freedom);

}  // namespace normlab::common
