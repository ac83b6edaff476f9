#include "engine/layers/normalization/channel_normalizer.h"

#include <algorithm>

namespace normlab::engine {
namespace {

// Below so many table entries a parallel region costs more than the work.
constexpr int64_t kSmallTable = 4096;

// Sets that span whole batches of single pixels are columns of a matrix: seen as one tall image, the
// kernels sum them directly instead of keeping statistics of single numbers.
ChannelBlocking ViewOf(const ChannelBlocking& shape, const ChannelNormalizerOptions& options) {
  const int64_t floats_per_example = shape.blocks() * shape.block;
  if (shape.area != 1 || options.examples_per_set == 1 || options.channels_per_set != 1) {
    return shape;
  }
  return {shape.batch / options.examples_per_set, shape.channels, options.examples_per_set,
          floats_per_example};
}

ChannelStatistic StatisticOf(ScaleKind kind) {
  switch (kind) {
    case ScaleKind::kOne:
    case ScaleKind::kDeviation:
      return ChannelStatistic::kCentredSquares;
    case ScaleKind::kRootMeanSquare:
      return ChannelStatistic::kSquares;
    case ScaleKind::kMeanAbsolute:
      return ChannelStatistic::kAbsolutes;
    case ScaleKind::kMaximumAbsolute:
      return ChannelStatistic::kMaximum;
  }
  return ChannelStatistic::kCentredSquares;
}

double At(const float* values, int64_t index, double otherwise) {
  return values == nullptr ? otherwise : static_cast<double>(values[index]);
}

size_t Size(int64_t count) {
  return static_cast<size_t>(count);
}

}  // namespace

ChannelNormalizer::ChannelNormalizer(const ChannelBlocking& shape,
                                     const ChannelNormalizerOptions& options,
                                     const NormalizerTensors& tensors)
    : view_(ViewOf(shape, options)),
      options_(options),
      set_examples_(options.examples_per_set * view_.batch / shape.batch),
      tensors_(tensors),
      mean_(options.given_statistics ? 0 : Size(view_.batch * view_.channels)),
      second_(mean_.size()),
      sum_g_(options.backward ? Size(view_.batch * view_.channels) : 0),
      sum_gx_(sum_g_.size()),
      sum_floored_(options.floor == OutputFloor::kNone ? 0 : sum_g_.size()),
      statistics_(Size(set_rows() * set_columns())),
      corrections_(statistics_.size()),
      shift_(Size(set_rows() * view_.channels)),
      scale_(shift_.size()),
      offset_(shift_.size()),
      p_(options.backward ? shift_.size() : 0),
      q_(p_.size()),
      r_(p_.size()),
      floor_(options.floor == OutputFloor::kZero ? Size(view_.channels) : 0),
      places_(options.backward && options.formula.scale == ScaleKind::kMaximumAbsolute
                  ? statistics_.size()
                  : 0) {}

int64_t ChannelNormalizer::bytes() const {
  const size_t doubles =
      mean_.size() + second_.size() + sum_g_.size() + sum_gx_.size() + sum_floored_.size();
  const size_t floats = 3 * shift_.size() + 3 * p_.size() + floor_.size();
  return static_cast<int64_t>(doubles * sizeof(double) + floats * sizeof(float) +
                              places_.size() * sizeof(Place) +
                              statistics_.size() * (sizeof(SetStatistics) + sizeof(Correction)));
}

SetStatistics ChannelNormalizer::Combine(int64_t row, int64_t column) const {
  // Chan, Golub and LeVeque's formula for parts of equal size; a constant set keeps exactly its
  // value.
  const auto area = static_cast<double>(view_.area);
  SetStatistics set;
  double parts = 0;
  double second = 0;
  for (int64_t n = row * set_examples_; n < (row + 1) * set_examples_; ++n) {
    const int64_t first = n * view_.channels + column * options_.channels_per_set;
    for (int64_t i = first; i < first + options_.channels_per_set; ++i) {
      const double part_mean = mean_[Size(i)];
      const double part_second = second_[Size(i)];
      const double delta = part_mean - set.mean;
      set.mean += delta / (parts + 1);
      if (options_.formula.scale == ScaleKind::kMaximumAbsolute) {
        second = part_second <= second ? second : part_second;  // in this form NaN wins
      } else if (StatisticOf(options_.formula.scale) == ChannelStatistic::kCentredSquares) {
        second += part_second + delta * delta * area * parts / (parts + 1);
      } else {
        second += part_second;
      }
      parts += 1;
    }
  }
  set.magnitude = options_.formula.scale == ScaleKind::kMaximumAbsolute
                      ? second
                      : second / static_cast<double>(values_per_set());
  return set;
}

SetStatistics ChannelNormalizer::Running(int64_t channel) const {
  return {At(tensors_.running_mean, channel, 0),
          MagnitudeFromRunning(options_.formula.scale, At(tensors_.running_var, channel, 1))};
}

void ChannelNormalizer::UpdateRunning() {
  if (tensors_.running_mean == nullptr && tensors_.running_var == nullptr) {
    return;
  }
  const auto rows = static_cast<double>(set_rows());
  for (int64_t c = 0; c < view_.channels; ++c) {
    double mean = 0;
    double running = 0;
    for (int64_t row = 0; row < set_rows(); ++row) {
      const SetStatistics& set = statistics_[Size(row * view_.channels + c)];
      mean += set.mean;
      running += RunningFromMagnitude(options_.formula.scale, set.magnitude, values_per_set());
    }
    const double rate = options_.running_update_rate;
    if (tensors_.running_mean != nullptr) {
      tensors_.running_mean[c] = MoveRunning(tensors_.running_mean[c], rate, mean / rows);
    }
    if (tensors_.running_var != nullptr) {
      tensors_.running_var[c] = MoveRunning(tensors_.running_var[c], rate, running / rows);
    }
  }
}

void ChannelNormalizer::MakeCoefficients(int64_t row, int64_t column) {
  const size_t set = Size(row * set_columns() + column);
  const int64_t first = column * options_.channels_per_set;
  SetStatistics& statistics = statistics_[set];
  Correction& correction = corrections_[set];
  if (options_.given_statistics) {
    statistics = Running(first);
  } else {
    statistics = Combine(row, column);
    if (options_.renorm.has_value()) {
      correction = CorrectionOf(options_.formula, *options_.renorm, statistics, Running(first));
    }
  }
  const double inverse = correction.r / ScaleOf(options_.formula, statistics.magnitude);
  const auto shift = centred() ? static_cast<float>(statistics.mean) : 0.0F;
  // What rounding the shift to float leaves of the mean goes into the offset.
  const double left = centred() ? inverse * (static_cast<double>(shift) - statistics.mean) : 0.0;
  for (int64_t c = first; c < first + options_.channels_per_set; ++c) {
    const size_t i = Size(row * view_.channels + c);
    const double gamma = At(tensors_.gamma, c, 1);
    shift_[i] = shift;
    scale_[i] = static_cast<float>(gamma * inverse);
    offset_[i] = static_cast<float>(At(tensors_.beta, c, 0) + gamma * (correction.d + left));
  }
}

ChannelAffine ChannelNormalizer::affine() const {
  const float* floor = nullptr;
  if (options_.floor == OutputFloor::kTau) {
    floor = tensors_.tau;
  } else if (options_.floor == OutputFloor::kZero) {
    floor = floor_.data();
  }
  return {shift_.data(), scale_.data(), offset_.data(), set_examples_, floor};
}

void ChannelNormalizer::Forward(const float* x, float* y) {
  if (!options_.given_statistics) {
    ComputeMoments(view_, StatisticOf(options_.formula.scale), x, mean_.data(), second_.data());
  }
  const int64_t sets = set_rows() * set_columns();
#pragma omp parallel for schedule(static) if (view_.batch * view_.channels > kSmallTable)
  for (int64_t set = 0; set < sets; ++set) {
    MakeCoefficients(set / set_columns(), set % set_columns());
  }
  if (!options_.given_statistics && options_.channels_per_set == 1) {
    UpdateRunning();
  }
  ApplyAffine(view_, affine(), x, y);
}

void ChannelNormalizer::MakeGradient(int64_t row, int64_t column) {
  const size_t set = Size(row * set_columns() + column);
  const SetStatistics& statistics = statistics_[set];
  const Correction& correction = corrections_[set];
  const int64_t first = column * options_.channels_per_set;
  const double scale = ScaleOf(options_.formula, statistics.magnitude);
  const auto shift = static_cast<double>(shift_[Size(row * view_.channels + first)]);
  const double left = centred() ? statistics.mean - shift : 0;
  double sum_g = 0;
  double sum_gx = 0;
  for (int64_t n = row * set_examples_; n < (row + 1) * set_examples_; ++n) {
    for (int64_t c = first; c < first + options_.channels_per_set; ++c) {
      const size_t i = Size(n * view_.channels + c);
      const double gamma = At(tensors_.gamma, c, 1);
      // The kernels took the sum about the shift; from here on it is about the mean.
      sum_gx_[i] -= left * sum_g_[i];
      sum_g += gamma * sum_g_[i];
      sum_gx += gamma * sum_gx_[i];
    }
  }
  SetGradient gradient;
  if (!options_.given_statistics) {
    gradient =
        GradientOfSet(options_.formula, statistics, correction, values_per_set(), sum_g, sum_gx);
  }
  const ScaleGradient term = GradientOfScale(options_.formula.scale);
  if (term == ScaleGradient::kOnePlace) {
    Place& place = places_[set];
    // FindPlaces left the sign.
    place.value = static_cast<float>(static_cast<double>(place.value) * gradient.q);
    gradient.q = 0;
  } else if (term == ScaleGradient::kDeviation) {
    gradient.offset -= gradient.q * left;  // x - mean = (x - shift) - left
  } else if (term == ScaleGradient::kValue) {
    gradient.offset += gradient.q * shift;  // x = (x - shift) + shift
  }
  for (int64_t c = first; c < first + options_.channels_per_set; ++c) {
    const size_t i = Size(row * view_.channels + c);
    p_[i] = static_cast<float>(At(tensors_.gamma, c, 1) * correction.r / scale);
    q_[i] = static_cast<float>(gradient.q);
    r_[i] = static_cast<float>(gradient.offset);
  }
}

void ChannelNormalizer::SumParameterGradients(int64_t channel) {
  double d_gamma = 0;
  double d_beta = 0;
  double d_tau = 0;
  for (int64_t n = 0; n < view_.batch; ++n) {
    const size_t i = Size(n * view_.channels + channel);
    const size_t set =
        Size(n / set_examples_ * set_columns() + channel / options_.channels_per_set);
    const Correction& correction = corrections_[set];
    const double inverse = correction.r / ScaleOf(options_.formula, statistics_[set].magnitude);
    d_gamma += inverse * sum_gx_[i] + correction.d * sum_g_[i];
    d_beta += sum_g_[i];
    d_tau += sum_floored_.empty() ? 0 : sum_floored_[i];
  }
  if (tensors_.d_gamma != nullptr) {
    tensors_.d_gamma[channel] = static_cast<float>(d_gamma);
  }
  if (tensors_.d_beta != nullptr) {
    tensors_.d_beta[channel] = static_cast<float>(d_beta);
  }
  if (tensors_.d_tau != nullptr) {
    tensors_.d_tau[channel] = static_cast<float>(d_tau);
  }
}

// Of equal largest magnitudes the first, by example, then place.
void ChannelNormalizer::FindPlaces(const float* x) {
  const int64_t sets = static_cast<int64_t>(places_.size());
#pragma omp parallel for schedule(static) if (view_.batch * view_.channels > kSmallTable)
  for (int64_t set = 0; set < sets; ++set) {
    Place& place = places_[Size(set)];
    place = {};
    const int64_t row = set / set_columns();
    const int64_t c = set % set_columns();
    const double largest = statistics_[Size(set)].magnitude;
    for (int64_t n = row * set_examples_; n < (row + 1) * set_examples_ && place.at < 0; ++n) {
      if (second_[Size(n * view_.channels + c)] == largest) {
        place.at = FindMagnitude(view_, n, c, static_cast<float>(largest), x);
      }
    }
    if (place.at >= 0) {
      const float value = x[place.at];
      place.value = static_cast<float>(value > 0) - static_cast<float>(value < 0);
    }
  }
}

void ChannelNormalizer::Backward(const float* x, const float* d_y, float* d_x) {
  const ChannelAffine map = affine();
  if (!options_.given_statistics) {
    FindPlaces(x);
  }
  SumGradients(
      view_, map, x, d_y,
      {sum_g_.data(), sum_gx_.data(), sum_floored_.empty() ? nullptr : sum_floored_.data()});
  const int64_t sets = set_rows() * set_columns();
#pragma omp parallel for schedule(static) if (view_.batch * view_.channels > kSmallTable)
  for (int64_t set = 0; set < sets; ++set) {
    MakeGradient(set / set_columns(), set % set_columns());
  }
#pragma omp parallel for schedule(static) if (view_.batch * view_.channels > kSmallTable)
  for (int64_t c = 0; c < view_.channels; ++c) {
    SumParameterGradients(c);
  }
  const GradientTerm term = GradientOfScale(options_.formula.scale) == ScaleGradient::kSign
                                ? GradientTerm::kSign
                                : GradientTerm::kDeviation;
  ApplyGradient(view_, map, {p_.data(), q_.data(), r_.data(), term}, x, d_y, d_x);
  for (const Place& place : places_) {
    if (place.at >= 0 && !options_.given_statistics) {
      d_x[place.at] += place.value;
    }
  }
}

}  // namespace normlab::engine
