#include "engine/layers/normalization/row_normalizer.h"

namespace normlab::engine {
namespace {

size_t Size(int64_t count) {
  return static_cast<size_t>(count);
}

}  // namespace

RowNormalizer::RowNormalizer(int64_t rows,
                             int64_t columns,
                             const RowNormalizerOptions& options,
                             const NormalizerTensors& tensors)
    : shape_{rows, columns, options.groups},
      options_(options),
      tensors_(tensors),
      statistics_(Size(rows * options.groups)),
      mean_(statistics_.size()),
      second_(statistics_.size()),
      sum_g_(options.backward ? statistics_.size() : 0),
      sum_gx_(sum_g_.size()),
      shift_(statistics_.size()),
      inverse_(statistics_.size()),
      offset_(statistics_.size()),
      q_(sum_g_.size()),
      r_(sum_g_.size()),
      ones_(tensors.gamma == nullptr ? Size(columns) : 0, 1.0F),
      zeros_(tensors.beta == nullptr ? Size(columns) : 0, 0.0F) {}

int64_t RowNormalizer::bytes() const {
  return static_cast<int64_t>(statistics_.size() *
                                  (sizeof(SetStatistics) + 2 * sizeof(double) + 3 * sizeof(float)) +
                              sum_g_.size() * 2 * (sizeof(double) + sizeof(float)) +
                              (ones_.size() + zeros_.size()) * sizeof(float));
}

void RowNormalizer::Forward(const float* x, float* y) {
  // A row's groups look like channels whose images lie one after the other.
  const ChannelBlocking sets = {shape_.rows, shape_.groups, shape_.group_size(), 1};
  const bool centred = options_.formula.centred;
  ComputeMoments(sets, centred ? ChannelStatistic::kCentredSquares : ChannelStatistic::kSquares, x,
                 mean_.data(), second_.data());
  for (size_t i = 0; i < statistics_.size(); ++i) {
    SetStatistics& set = statistics_[i];
    set = {mean_[i], second_[i] / static_cast<double>(shape_.group_size())};
    const double inverse = 1 / ScaleOf(options_.formula, set.magnitude);
    shift_[i] = centred ? static_cast<float>(set.mean) : 0.0F;
    inverse_[i] = static_cast<float>(inverse);
    // What rounding the shift to float leaves of the mean.
    offset_[i] =
        centred ? static_cast<float>(inverse * (static_cast<double>(shift_[i]) - set.mean)) : 0.0F;
  }
  ApplyRowAffine(shape_,
                 {shift_.data(), inverse_.data(), offset_.data(),
                  tensors_.gamma == nullptr ? ones_.data() : tensors_.gamma,
                  tensors_.beta == nullptr ? zeros_.data() : tensors_.beta, options_.relu},
                 x, y);
}

void RowNormalizer::Backward(const float* x, const float* d_y, float* d_x) {
  const RowAffine affine = {shift_.data(),
                            inverse_.data(),
                            offset_.data(),
                            tensors_.gamma == nullptr ? ones_.data() : tensors_.gamma,
                            tensors_.beta == nullptr ? zeros_.data() : tensors_.beta,
                            options_.relu};
  SumRowGradients(shape_, affine, x, d_y, sum_g_.data(), sum_gx_.data());
  if (tensors_.d_gamma != nullptr || tensors_.d_beta != nullptr) {
    SumColumnGradients(shape_, affine, x, d_y, tensors_.d_gamma, tensors_.d_beta);
  }
  for (size_t i = 0; i < statistics_.size(); ++i) {
    const SetStatistics& set = statistics_[i];
    const double left = options_.formula.centred ? set.mean - static_cast<double>(shift_[i]) : 0;
    const SetGradient gradient = GradientOfSet(options_.formula, set, {}, shape_.group_size(),
                                               sum_g_[i], sum_gx_[i] - left * sum_g_[i]);
    q_[i] = static_cast<float>(gradient.q);
    r_[i] = static_cast<float>(gradient.offset - gradient.q * left);
  }
  ApplyRowGradient(shape_, affine, q_.data(), r_.data(), x, d_y, d_x);
}

}  // namespace normlab::engine
