#include "engine/worker/normalize_inference.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"

namespace normlab::engine {
namespace {

constexpr ChannelShape kShape = {.batch = 3, .channels = 2, .area = 5};
// Of central differences of a function that is linear in each argument, and float32 results.
constexpr double kTolerance = 1e-5;

// The function itself, from the definition.
double Weighted(const NormalizerFormula& formula,
                const std::vector<float>& mean,
                const std::vector<float>& running,
                const std::vector<double>& gamma,
                const std::vector<double>& beta,
                const std::vector<double>& x,
                const std::vector<float>& d_y) {
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t c = i / 5 % 2;
    const double value = running[c];
    double s = 1;
    switch (formula.scale) {
      case ScaleKind::kOne:
        break;
      case ScaleKind::kDeviation:
        s = std::sqrt(value + formula.epsilon);
        break;
      case ScaleKind::kRootMeanSquare:
        s = std::sqrt(value * value + formula.epsilon);
        break;
      case ScaleKind::kMeanAbsolute:
      case ScaleKind::kMaximumAbsolute:
        s = value + formula.epsilon;
        break;
    }
    sum += d_y[i] * (gamma[c] * (x[i] - mean[c]) / s + beta[c]);
  }
  return sum;
}

TEST(NormalizeInferenceTest, MatchesCentralDifferencesForEveryScale) {
  const std::vector<float> mean = {0.5F, -2};
  const std::vector<float> running = {0.7F, 3};
  const std::vector<float> gamma = {1.5F, -0.25F};
  std::vector<float> x, d_y;
  for (int i = 0; i < 30; ++i) {
    x.push_back(static_cast<float>(std::sin(3.0 * i)));
    d_y.push_back(static_cast<float>(std::cos(2.0 * i)));
  }
  for (const ScaleKind scale : {ScaleKind::kOne, ScaleKind::kDeviation, ScaleKind::kRootMeanSquare,
                                ScaleKind::kMeanAbsolute, ScaleKind::kMaximumAbsolute}) {
    const NormalizerFormula formula = {.scale = scale, .epsilon = 0.1};
    const ChannelGradients gradients =
        GradientOfGivenStatistics(formula, kShape, {mean, running, gamma}, x, d_y);
    const std::vector<double> x_wide(x.begin(), x.end());
    const std::vector<double> gamma_wide(gamma.begin(), gamma.end());
    const std::vector<double> beta = {0, 0};
    const auto slope = [&](auto moved) {
      constexpr double kStep = 0.5;  // the function is linear
      return (moved(kStep) - moved(-kStep)) / (2 * kStep);
    };
    for (size_t i = 0; i < x.size(); ++i) {
      const double expected = slope([&](double step) {
        std::vector<double> at = x_wide;
        at[i] += step;
        return Weighted(formula, mean, running, gamma_wide, beta, at, d_y);
      });
      EXPECT_NEAR(gradients.d_x[i], expected, kTolerance) << i;
    }
    for (size_t c = 0; c < 2; ++c) {
      EXPECT_NEAR(gradients.d_gamma[c], slope([&](double step) {
                    std::vector<double> at = gamma_wide;
                    at[c] += step;
                    return Weighted(formula, mean, running, at, beta, x_wide, d_y);
                  }),
                  kTolerance);
      EXPECT_NEAR(gradients.d_beta[c], slope([&](double step) {
                    std::vector<double> at = beta;
                    at[c] += step;
                    return Weighted(formula, mean, running, gamma_wide, at, x_wide, d_y);
                  }),
                  kTolerance);
    }
  }
}

TEST(NormalizeInferenceTest, WithoutGammaItIsOne) {
  const std::vector<float> mean = {0, 0};
  const std::vector<float> running = {4, 4};
  const std::vector<float> ones(30, 1.0F);
  const ChannelGradients gradients = GradientOfGivenStatistics(
      {.scale = ScaleKind::kMeanAbsolute, .epsilon = 0}, kShape, {mean, running, {}}, ones, ones);
  EXPECT_NEAR(gradients.d_x[7], 0.25, kTolerance);
  EXPECT_EQ(gradients.d_beta, (std::vector<double>{15, 15}));
}

}  // namespace
}  // namespace normlab::engine
