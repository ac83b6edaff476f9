#include "engine/layers/normalization/weight_normalization.h"

#include <cmath>

#include "engine/layers/normalization/channel_kernels.h"

namespace normlab::engine {
namespace {

// Added to the standard deviation, not to the variance (the paper's code).
constexpr double kStandardizationEpsilon = 1e-5;

double Square(double value) {
  return value * value;
}

}  // namespace

WeightNormalization::WeightNormalization(int64_t outputs, int64_t fan_in)
    : rows_{outputs, 1, fan_in, 1},
      mean_(static_cast<size_t>(outputs)),
      norm_(mean_.size()),
      sum_g_(mean_.size()),
      sum_gx_(mean_.size()),
      zeros_(mean_.size()),
      scale_(mean_.size()),
      p_(mean_.size()),
      q_(mean_.size()) {}

void WeightNormalization::MakeNorms(const float* v) {
  ComputeMoments(rows_, ChannelStatistic::kSquares, v, mean_.data(), norm_.data());
  for (double& norm : norm_) {
    norm = std::sqrt(norm);
  }
}

void WeightNormalization::Norms(const float* v, float* norms) {
  MakeNorms(v);
  for (size_t o = 0; o < norm_.size(); ++o) {
    norms[o] = static_cast<float>(norm_[o]);
  }
}

void WeightNormalization::Forward(const float* v, const float* g, float* w) {
  MakeNorms(v);
  for (size_t o = 0; o < norm_.size(); ++o) {
    scale_[o] = norm_[o] == 0 ? 0.0F : static_cast<float>(static_cast<double>(g[o]) / norm_[o]);
  }
  ApplyAffine(rows_, {zeros_.data(), scale_.data(), zeros_.data(), 1, nullptr}, v, w);
}

void WeightNormalization::Backward(
    const float* v, const float* g, const float* d_w, float* d_v, float* d_g) {
  const ChannelAffine affine = {zeros_.data(), scale_.data(), zeros_.data(), 1, nullptr};
  SumGradients(rows_, affine, v, d_w, {sum_g_.data(), sum_gx_.data(), nullptr});
  for (size_t o = 0; o < norm_.size(); ++o) {
    const double inverse = norm_[o] == 0 ? 0 : 1 / norm_[o];
    const double scale = static_cast<double>(g[o]) * inverse;
    p_[o] = static_cast<float>(scale);
    q_[o] = static_cast<float>(-scale * sum_gx_[o] * Square(inverse));
    d_g[o] = static_cast<float>(sum_gx_[o] * inverse);
  }
  ApplyGradient(rows_, affine, {p_.data(), q_.data(), zeros_.data(), GradientTerm::kDeviation}, v,
                d_w, d_v);
}

void DataDependentScale(absl::Span<const SetStatistics> outputs, float* g, float* b) {
  for (size_t o = 0; o < outputs.size(); ++o) {
    const double deviation = std::sqrt(outputs[o].magnitude);
    const double inverse = deviation == 0 ? 1 : 1 / deviation;
    g[o] = static_cast<float>(inverse);
    b[o] = static_cast<float>(-outputs[o].mean * inverse);
  }
}

WeightStandardizer::WeightStandardizer(int64_t outputs, int64_t fan_in)
    : rows_{outputs, 1, fan_in, 1},
      mean_(static_cast<size_t>(outputs)),
      second_(mean_.size()),
      sum_g_(mean_.size()),
      sum_gx_(mean_.size()),
      shift_(mean_.size()),
      scale_(mean_.size()),
      offset_(mean_.size()),
      q_(mean_.size()),
      r_(mean_.size()) {}

void WeightStandardizer::Forward(const float* v, float* w) {
  ComputeMoments(rows_, ChannelStatistic::kCentredSquares, v, mean_.data(), second_.data());
  const auto degrees = static_cast<double>(rows_.area - 1);
  for (size_t o = 0; o < mean_.size(); ++o) {
    const double deviation = rows_.area == 1 ? 0 : std::sqrt(second_[o] / degrees);
    const double inverse = 1 / (deviation + kStandardizationEpsilon);
    shift_[o] = static_cast<float>(mean_[o]);
    scale_[o] = static_cast<float>(inverse);
    offset_[o] = static_cast<float>(inverse * (static_cast<double>(shift_[o]) - mean_[o]));
  }
  ApplyAffine(rows_, {shift_.data(), scale_.data(), offset_.data(), 1, nullptr}, v, w);
}

void WeightStandardizer::Backward(const float* v, const float* d_w, float* d_v) {
  const ChannelAffine affine = {shift_.data(), scale_.data(), offset_.data(), 1, nullptr};
  SumGradients(rows_, affine, v, d_w, {sum_g_.data(), sum_gx_.data(), nullptr});
  const auto fan_in = static_cast<double>(rows_.area);
  for (size_t o = 0; o < mean_.size(); ++o) {
    const double left = mean_[o] - static_cast<double>(shift_[o]);
    const double sum_gc = sum_gx_[o] - left * sum_g_[o];
    const double deviation = rows_.area == 1 ? 0 : std::sqrt(second_[o] / (fan_in - 1));
    const double scale = deviation + kStandardizationEpsilon;
    const double q = deviation == 0 ? 0 : -sum_gc / (Square(scale) * deviation * (fan_in - 1));
    q_[o] = static_cast<float>(q);
    r_[o] = static_cast<float>(-sum_g_[o] / (fan_in * scale) - q * left);
  }
  ApplyGradient(rows_, affine, {scale_.data(), q_.data(), r_.data(), GradientTerm::kDeviation}, v,
                d_w, d_v);
}

}  // namespace normlab::engine
