#include "engine/layers/normalization/normalizer_math.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace normlab::engine {
namespace {

constexpr double kSmallestSquare = std::numeric_limits<float>::min();

}  // namespace

double ScaleOf(const NormalizerFormula& formula, double magnitude) {
  switch (formula.scale) {
    case ScaleKind::kOne:
      return 1;
    case ScaleKind::kDeviation:
    case ScaleKind::kRootMeanSquare:
      return std::sqrt(magnitude + std::max(formula.epsilon, kSmallestSquare));
    case ScaleKind::kMeanAbsolute:
    case ScaleKind::kMaximumAbsolute:
      return magnitude + std::max(formula.epsilon, std::sqrt(kSmallestSquare));
  }
  return 1;
}

double RunningFromMagnitude(ScaleKind kind, double magnitude, int64_t count) {
  switch (kind) {
    case ScaleKind::kOne:
      return 1;
    case ScaleKind::kDeviation:
      return magnitude * static_cast<double>(count) / static_cast<double>(count - 1);
    case ScaleKind::kRootMeanSquare:
      return std::sqrt(magnitude);
    case ScaleKind::kMeanAbsolute:
    case ScaleKind::kMaximumAbsolute:
      return magnitude;
  }
  return magnitude;
}

double MagnitudeFromRunning(ScaleKind kind, double running) {
  return kind == ScaleKind::kRootMeanSquare ? running * running : running;
}

float MoveRunning(float running, double rate, double new_value) {
  return static_cast<float>((1.0 - rate) * static_cast<double>(running) + rate * new_value);
}

Correction CorrectionOf(const NormalizerFormula& formula,
                        const CorrectionLimits& limits,
                        const SetStatistics& batch,
                        const SetStatistics& running) {
  const double s = ScaleOf(formula, batch.magnitude);
  const double s_run = ScaleOf(formula, running.magnitude);
  return {.r = std::clamp(s / s_run, 1 / limits.r_max, limits.r_max),
          .d = std::clamp((batch.mean - running.mean) / s_run, -limits.d_max, limits.d_max)};
}

ScaleGradient GradientOfScale(ScaleKind kind) {
  switch (kind) {
    case ScaleKind::kOne:
      return ScaleGradient::kNone;
    case ScaleKind::kDeviation:
      return ScaleGradient::kDeviation;
    case ScaleKind::kRootMeanSquare:
      return ScaleGradient::kValue;
    case ScaleKind::kMeanAbsolute:
      return ScaleGradient::kSign;
    case ScaleKind::kMaximumAbsolute:
      return ScaleGradient::kOnePlace;
  }
  return ScaleGradient::kNone;
}

SetGradient GradientOfSet(const NormalizerFormula& formula,
                          const SetStatistics& statistics,
                          const Correction& correction,
                          int64_t count,
                          double sum_g,
                          double sum_gx) {
  const auto m = static_cast<double>(count);
  const double s = ScaleOf(formula, statistics.magnitude);
  // dL/ds; every h below is ds/dx up to the factor that follows.
  const double d_s = -correction.r * sum_gx / s / s;
  SetGradient result;
  result.offset = formula.centred ? -correction.r * sum_g / (m * s) : 0;
  switch (formula.scale) {
    case ScaleKind::kOne:
      result.q = 0;
      break;
    case ScaleKind::kDeviation:
    case ScaleKind::kRootMeanSquare:
      result.q = d_s / (m * s);
      break;
    case ScaleKind::kMeanAbsolute:
      result.q = d_s / m;
      break;
    case ScaleKind::kMaximumAbsolute:
      result.q = d_s;
      break;
  }
  return result;
}

}  // namespace normlab::engine
