#pragma once

#include <cstdint>

// The formulas of set normalizers as pure functions of doubles. Nearly every normalizer is
//   y = gamma ((x - mean)/s r + d) + beta,  s = s(magnitude, epsilon),
// over some set of m values of which mean and magnitude are taken, and its gradient is
//   d_x = p d_y + q h(x) + r.
// docs/numerics.md derives them. Thread-safe.
namespace normlab::engine {

// What the values of a set are divided by, and the magnitude that it is made of.
enum class ScaleKind {
  kOne,              // s = 1; no magnitude
  kDeviation,        // s = sqrt(var + epsilon); the biased variance
  kRootMeanSquare,   // s = sqrt(mean x^2 + epsilon); the mean square
  kMeanAbsolute,     // s = mean |x| + epsilon; the mean magnitude (l_1)
  kMaximumAbsolute,  // s = max |x| + epsilon; the largest magnitude (l_inf)
};

struct NormalizerFormula {
  bool centred = true;  // whether the mean is subtracted
  ScaleKind scale = ScaleKind::kDeviation;
  double epsilon = 1e-5;
};

struct SetStatistics {
  double mean = 0;  // of x, also where it is not subtracted
  double magnitude = 0;
};

// s > 0. An epsilon of 0 counts as the smallest normal float inside a root (1.2e-38) and as its root
// outside: a constant set then gives finite numbers.
double ScaleOf(const NormalizerFormula& formula, double magnitude);

// What the running statistic named `running_var` follows: for kDeviation the unbiased variance (set
// of `count` values, at least 2), else the scale without epsilon, so a root for kRootMeanSquare.
double RunningFromMagnitude(ScaleKind kind, double magnitude, int64_t count);
// The magnitude to evaluate with.
double MagnitudeFromRunning(ScaleKind kind, double running);

// (1 - rate) running + rate new; `rate` is the weight of the new batch.
float MoveRunning(float running, double rate, double new_value);

// Of batch renormalization (Ioffe 2017): r = clip(s/s_run, 1/r_max, r_max), d = clip((mean -
// mean_run)/s_run, -d_max, d_max). No gradient passes through them.
struct Correction {
  double r = 1;
  double d = 0;
};
struct CorrectionLimits {
  double r_max = 3;
  double d_max = 5;
};
Correction CorrectionOf(const NormalizerFormula& formula,
                        const CorrectionLimits& limits,
                        const SetStatistics& batch,
                        const SetStatistics& running);

// Which h the gradient of a scale has. For kOnePlace d_x gets `q` added at the one place of the
// largest magnitude, times the sign there.
enum class ScaleGradient { kNone, kDeviation, kValue, kSign, kOnePlace };
ScaleGradient GradientOfScale(ScaleKind kind);

// d_x_i = (gamma_i r/s) d_y_i + q h(x_i) + offset for the values of a set, with h = x - mean, x or
// sign(x) by GradientOfScale.
struct SetGradient {
  double q = 0;
  double offset = 0;
};
// Over the set of `count` values: sum_g = sum gamma d_y, sum_gx = sum gamma d_y (x - mean) (x alone
// when not centred).
SetGradient GradientOfSet(const NormalizerFormula& formula,
                          const SetStatistics& statistics,
                          const Correction& correction,
                          int64_t count,
                          double sum_g,
                          double sum_gx);

}  // namespace normlab::engine
