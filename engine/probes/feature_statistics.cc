#include "engine/probes/feature_statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/random.h"

#include <Eigen/Eigenvalues>

namespace normlab::engine {
namespace {

constexpr int64_t kMaxRows = 1024;

// Calls take(value) for every value of a channel.
template <typename Take>
void ForChannel(const FeatureBatch& features, int64_t channel, const Take& take) {
  const int64_t channels = features.channels();
  const int64_t pixels = features.pixels();
  for (int64_t n = 0; n < features.batch; ++n) {
    const float* const values = features.values.data() + (n * channels + channel) * pixels;
    for (int64_t i = 0; i < pixels; ++i) {
      take(values[i]);
    }
  }
}

// Rows of features, one column a channel.
Eigen::MatrixXd SampleRows(const FeatureBatch& features, uint32_t seed) {
  const int64_t pixels = features.pixels();
  const int64_t channels = features.channels();
  const int64_t all = features.batch * pixels;
  const int64_t rows = std::min(all, kMaxRows);
  const common::RandomStream random(seed, "probes/rows");
  Eigen::MatrixXd sample(rows, channels);
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t row = all <= kMaxRows
                            ? i
                            : static_cast<int64_t>(random.Below(static_cast<uint64_t>(all), 0,
                                                                static_cast<uint64_t>(i)));
    const float* const values =
        features.values.data() + row / pixels * channels * pixels + row % pixels;
    for (int64_t c = 0; c < channels; ++c) {
      sample(i, c) = values[c * pixels];
    }
  }
  return sample;
}

}  // namespace

Moments MomentsOf(const FeatureBatch& features) {
  const auto count = static_cast<double>(features.values.size());
  double sum = 0;
  for (const float value : features.values) {
    sum += value;
  }
  const double mean = sum / count;
  double squares = 0;
  for (const float value : features.values) {
    squares += (value - mean) * (value - mean);
  }
  return {mean, squares / count};
}

std::vector<Moments> ChannelMoments(const FeatureBatch& features) {
  std::vector<Moments> moments(static_cast<size_t>(features.channels()));
  const auto count = static_cast<double>(features.batch * features.pixels());
  for (int64_t c = 0; c < features.channels(); ++c) {
    Moments& of_channel = moments[static_cast<size_t>(c)];
    double sum = 0;
    ForChannel(features, c, [&sum](float value) { sum += value; });
    of_channel.mean = sum / count;
    ForChannel(features, c, [&of_channel](float value) {
      of_channel.variance += (value - of_channel.mean) * (value - of_channel.mean);
    });
    of_channel.variance /= count;
  }
  return moments;
}

double DeadFraction(const FeatureBatch& features) {
  int64_t dead = 0;
  for (int64_t c = 0; c < features.channels(); ++c) {
    bool zero = true;
    ForChannel(features, c, [&zero](float value) { zero = zero && value == 0; });
    dead += zero ? 1 : 0;
  }
  return static_cast<double>(dead) / static_cast<double>(features.channels());
}

double MomentShift(absl::Span<const Moments> before, absl::Span<const Moments> after) {
  double sum = 0;
  for (size_t c = 0; c < before.size(); ++c) {
    sum += std::hypot(after[c].mean - before[c].mean,
                      std::sqrt(after[c].variance) - std::sqrt(before[c].variance));
  }
  return sum / static_cast<double>(before.size());
}

Ranks RanksOf(const FeatureBatch& features, uint32_t seed) {
  const Eigen::MatrixXd h = SampleRows(features, seed);
  if (!h.allFinite()) {
    return {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::quiet_NaN()};
  }
  // Both Gram matrices have the same eigenvalues but for zeros.
  const Eigen::MatrixXd gram =
      h.rows() < h.cols() ? Eigen::MatrixXd(h * h.transpose()) : Eigen::MatrixXd(h.transpose() * h);
  const double trace = gram.trace();
  if (trace == 0) {
    return {};
  }
  Ranks ranks;
  ranks.soft = trace * trace / gram.squaredNorm();
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(gram, Eigen::EigenvaluesOnly);
  // Rounding leaves eigenvalues of about 1e-16 of the trace where there should be 0.
  const double floor = trace * static_cast<double>(gram.rows()) * 1e-15;
  double sum = 0;
  for (const double eigenvalue : solver.eigenvalues()) {
    sum += eigenvalue > floor ? std::sqrt(eigenvalue) : 0;
  }
  double entropy = 0;
  for (const double eigenvalue : solver.eigenvalues()) {
    if (eigenvalue > floor) {
      const double share = std::sqrt(eigenvalue) / sum;
      entropy -= share * std::log(share);
    }
  }
  ranks.effective = std::exp(entropy);
  return ranks;
}

}  // namespace normlab::engine
