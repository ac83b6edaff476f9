#include "engine/layers/normalization/channel_normalizer.h"

#include <algorithm>

#include "engine/layers/normalization/channel_tables.h"

namespace normlab::engine {
namespace {

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

double At(const float* values, int64_t index, double otherwise) {
  return values == nullptr ? otherwise : static_cast<double>(values[index]);
}

}  // namespace

ChannelNormalizer::ChannelNormalizer(const ChannelBlocking& shape,
                                     const ChannelNormalizerOptions& options,
                                     const NormalizerTensors& tensors)
    : view_(ViewOf(shape, options)),
      options_(options),
      set_examples_(options.examples_per_set * view_.batch / shape.batch),
      tensors_(tensors),
      values_per_set_(own_values_per_set()),
      statistics_(Size(sets())),
      corrections_(options.renorm.has_value() ? statistics_.size() : 0),
      floor_(options.floor == OutputFloor::kZero ? Size(view_.channels) : 0),
      places_(!options.given_statistics &&
                      GradientOfScale(options.formula.scale) == ScaleGradient::kOnePlace
                  ? statistics_.size()
                  : 0),
      mine_(options.ranks != nullptr ? 1 + 2 * statistics_.size() : 0),
      all_(options.ranks != nullptr ? mine_.size() * Size(options.ranks->size()) : 0),
      largest_is_mine_(options.ranks != nullptr ? statistics_.size() : 0) {}

ChannelNormalizer::ForwardTables ChannelNormalizer::CutForward(ScratchCutter& cutter) const {
  const int64_t entries = options_.given_statistics ? 0 : view_.batch * view_.channels;
  const int64_t rows = set_rows() * view_.channels;
  ForwardTables tables = {};
  tables.mean = cutter.Cut<double>(entries);
  tables.second = cutter.Cut<double>(entries);
  tables.shift = cutter.Cut<float>(rows);
  tables.scale = cutter.Cut<float>(rows);
  tables.offset = cutter.Cut<float>(rows);
  return tables;
}

ChannelNormalizer::BackwardTables ChannelNormalizer::CutBackward(ScratchCutter& cutter) const {
  const int64_t entries = view_.batch * view_.channels;
  const int64_t rows = set_rows() * view_.channels;
  BackwardTables tables = {};
  tables.sum_g = cutter.Cut<double>(entries);
  tables.sum_gx = cutter.Cut<double>(entries);
  tables.sum_floored = options_.floor == OutputFloor::kNone ? nullptr : cutter.Cut<double>(entries);
  tables.shift = cutter.Cut<float>(rows);
  tables.scale = cutter.Cut<float>(rows);
  tables.offset = cutter.Cut<float>(rows);
  tables.p = cutter.Cut<float>(rows);
  tables.q = cutter.Cut<float>(rows);
  tables.r = cutter.Cut<float>(rows);
  return tables;
}

int64_t ChannelNormalizer::forward_scratch_bytes() const {
  ScratchCutter cutter(nullptr);
  CutForward(cutter);
  return cutter.bytes();
}

int64_t ChannelNormalizer::backward_scratch_bytes() const {
  ScratchCutter cutter(nullptr);
  CutBackward(cutter);
  return cutter.bytes();
}

ChannelNormalizer::SetSums ChannelNormalizer::Combine(const ForwardTables& tables,
                                                      int64_t row,
                                                      int64_t column) const {
  // Chan, Golub and LeVeque's formula for parts of equal size; a constant set keeps exactly its
  // value.
  const auto area = static_cast<double>(view_.area);
  const ChannelStatistic statistic = StatisticOf(options_.formula.scale);
  SetSums set;
  double parts = 0;
  double& second = set.second;
  for (int64_t n = row * set_examples_; n < (row + 1) * set_examples_; ++n) {
    const int64_t first = n * view_.channels + column * options_.channels_per_set;
    for (int64_t i = first; i < first + options_.channels_per_set; ++i) {
      const double delta = tables.mean[i] - set.mean;
      set.mean += delta / (parts + 1);
      if (statistic == ChannelStatistic::kMaximum) {
        // A NaN may be lost here; the mean keeps it, and so does every value that is normalized.
        second = tables.second[i] <= second ? second : tables.second[i];
      } else if (statistic == ChannelStatistic::kCentredSquares) {
        second += tables.second[i] + delta * delta * area * parts / (parts + 1);
      } else {
        second += tables.second[i];
      }
      parts += 1;
    }
  }
  return set;
}

SetStatistics ChannelNormalizer::StatisticsOf(const SetSums& sums) const {
  return {.mean = sums.mean,
          .magnitude = StatisticOf(options_.formula.scale) == ChannelStatistic::kMaximum
                           ? sums.second
                           : sums.second / static_cast<double>(values_per_set_)};
}

SetStatistics ChannelNormalizer::Running(int64_t channel) const {
  return {At(tensors_.running_mean, channel, 0),
          MagnitudeFromRunning(options_.formula.scale, At(tensors_.running_var, channel, 1))};
}

Correction ChannelNormalizer::CorrectionAt(int64_t set) const {
  return corrections_.empty() ? Correction{} : corrections_[Size(set)];
}

void ChannelNormalizer::UpdateRunning() {
  const auto rows = static_cast<double>(set_rows());
  const double rate = options_.running_update_rate;
  for (int64_t c = 0; c < view_.channels; ++c) {
    double mean = 0;
    double running = 0;
    for (int64_t row = 0; row < set_rows(); ++row) {
      const SetStatistics& set = statistics_[Size(row * view_.channels + c)];
      mean += set.mean;
      running += RunningFromMagnitude(options_.formula.scale, set.magnitude, values_per_set_);
    }
    if (tensors_.running_mean != nullptr) {
      tensors_.running_mean[c] = MoveRunning(tensors_.running_mean[c], rate, mean / rows);
    }
    if (tensors_.running_var != nullptr) {
      tensors_.running_var[c] = MoveRunning(tensors_.running_var[c], rate, running / rows);
    }
  }
}

// Of equal largest magnitudes the first, by example, then place.
void ChannelNormalizer::FindPlaces(const float* x, const double* second) {
  ForAll(static_cast<int64_t>(places_.size()), view_.batch * view_.channels, [&](int64_t set) {
    Place& place = places_[Size(set)];
    place = {};
    if (!largest_is_mine_.empty() && largest_is_mine_[Size(set)] == 0) {
      return;
    }
    const int64_t row = set / set_columns();
    const int64_t c = set % set_columns();
    const double largest = statistics_[Size(set)].magnitude;
    for (int64_t n = row * set_examples_; n < (row + 1) * set_examples_ && place.at < 0; ++n) {
      if (second[n * view_.channels + c] == largest) {
        place.at = FindMagnitude(view_, n, c, static_cast<float>(largest), x);
      }
    }
    if (place.at >= 0) {
      const float value = x[place.at];
      place.sign = static_cast<float>(value > 0) - static_cast<float>(value < 0);
    }
  });
}

void ChannelNormalizer::ComputeStatistics(const float* x, const ForwardTables& tables) {
  const int64_t entries = view_.batch * view_.channels;
  if (options_.given_statistics) {
    ForAll(sets(), entries, [&](int64_t set) {
      statistics_[Size(set)] = Running(set % set_columns() * options_.channels_per_set);
    });
    return;
  }
  ComputeMoments(view_, StatisticOf(options_.formula.scale), x, tables.mean, tables.second);
  if (options_.ranks != nullptr) {
    MergeStatistics(tables);
  }
  ForAll(sets(), entries, [&](int64_t set) {
    if (options_.ranks == nullptr) {
      statistics_[Size(set)] =
          StatisticsOf(Combine(tables, set / set_columns(), set % set_columns()));
    }
    if (options_.renorm.has_value()) {
      corrections_[Size(set)] = CorrectionOf(options_.formula, *options_.renorm,
                                             statistics_[Size(set)], Running(set % set_columns()));
    }
  });
  FindPlaces(x, tables.second);
}

void ChannelNormalizer::MakeGradients(const BackwardTables& tables) {
  if (options_.ranks != nullptr) {
    MakeGradientsOfRanks(tables);
    return;
  }
  ForAll(sets(), view_.batch * view_.channels,
         [&](int64_t set) { MakeGradient(set, SumSet(set, tables), tables); });
}

void ChannelNormalizer::MakeCoefficients(int64_t set,
                                         float* shift,
                                         float* scale,
                                         float* offset) const {
  const SetStatistics& statistics = statistics_[Size(set)];
  const Correction correction = CorrectionAt(set);
  const double inverse = correction.r / ScaleOf(options_.formula, statistics.magnitude);
  const auto set_shift = centred() ? static_cast<float>(statistics.mean) : 0.0F;
  // What rounding the shift to float leaves of the mean goes into the offset.
  const double left =
      centred() ? inverse * (static_cast<double>(set_shift) - statistics.mean) : 0.0;
  const int64_t first = set % set_columns() * options_.channels_per_set;
  for (int64_t c = first; c < first + options_.channels_per_set; ++c) {
    const int64_t i = set / set_columns() * view_.channels + c;
    const double gamma = At(tensors_.gamma, c, 1);
    shift[i] = set_shift;
    scale[i] = static_cast<float>(gamma * inverse);
    offset[i] = static_cast<float>(At(tensors_.beta, c, 0) + gamma * (correction.d + left));
  }
}

ChannelAffine ChannelNormalizer::AffineOf(const float* shift,
                                          const float* scale,
                                          const float* offset) const {
  const float* floor = nullptr;
  if (options_.floor == OutputFloor::kTau) {
    floor = tensors_.tau;
  } else if (options_.floor == OutputFloor::kZero) {
    floor = floor_.data();
  }
  return {shift, scale, offset, set_examples_, floor};
}

void ChannelNormalizer::Forward(const float* x, float* y, std::byte* scratch, bool update_running) {
  ScratchCutter cutter(scratch);
  const ForwardTables tables = CutForward(cutter);
  ComputeStatistics(x, tables);
  ForAll(sets(), view_.batch * view_.channels,
         [&](int64_t set) { MakeCoefficients(set, tables.shift, tables.scale, tables.offset); });
  const bool has_running = options_.channels_per_set == 1 &&
                           (tensors_.running_mean != nullptr || tensors_.running_var != nullptr);
  if (update_running && has_running && !options_.given_statistics) {
    UpdateRunning();
  }
  ApplyAffine(view_, AffineOf(tables.shift, tables.scale, tables.offset), x, y);
}

double ChannelNormalizer::LeftOfMean(int64_t set, const BackwardTables& tables) const {
  const int64_t first =
      set / set_columns() * view_.channels + set % set_columns() * options_.channels_per_set;
  return centred() ? statistics_[Size(set)].mean - static_cast<double>(tables.shift[first]) : 0;
}

ChannelNormalizer::GradientSums ChannelNormalizer::SumSet(int64_t set,
                                                          const BackwardTables& tables) const {
  const int64_t row = set / set_columns();
  const int64_t first = set % set_columns() * options_.channels_per_set;
  const double left = LeftOfMean(set, tables);
  GradientSums sums;
  for (int64_t n = row * set_examples_; n < (row + 1) * set_examples_; ++n) {
    for (int64_t c = first; c < first + options_.channels_per_set; ++c) {
      const int64_t i = n * view_.channels + c;
      const double gamma = At(tensors_.gamma, c, 1);
      // The kernels took the sum about the shift; from here on it is about the mean.
      tables.sum_gx[i] -= left * tables.sum_g[i];
      sums.g += gamma * tables.sum_g[i];
      sums.gx += gamma * tables.sum_gx[i];
    }
  }
  return sums;
}

void ChannelNormalizer::MakeGradient(int64_t set,
                                     const GradientSums& sums,
                                     const BackwardTables& tables) {
  const SetStatistics& statistics = statistics_[Size(set)];
  const Correction correction = CorrectionAt(set);
  const int64_t row = set / set_columns();
  const int64_t first = set % set_columns() * options_.channels_per_set;
  const auto shift = static_cast<double>(tables.shift[row * view_.channels + first]);
  const double left = LeftOfMean(set, tables);
  SetGradient gradient;
  if (!options_.given_statistics) {
    gradient =
        GradientOfSet(options_.formula, statistics, correction, values_per_set_, sums.g, sums.gx);
  }
  switch (GradientOfScale(options_.formula.scale)) {
    case ScaleGradient::kDeviation:
      gradient.offset -= gradient.q * left;  // x - mean = (x - shift) - left
      break;
    case ScaleGradient::kValue:
      gradient.offset += gradient.q * shift;  // x = (x - shift) + shift
      break;
    case ScaleGradient::kOnePlace:
      if (!places_.empty()) {
        Place& place = places_[Size(set)];
        place.gradient = static_cast<float>(static_cast<double>(place.sign) * gradient.q);
      }
      gradient.q = 0;
      break;
    case ScaleGradient::kNone:
    case ScaleGradient::kSign:
      break;
  }
  const double scale = ScaleOf(options_.formula, statistics.magnitude);
  for (int64_t c = first; c < first + options_.channels_per_set; ++c) {
    const int64_t i = row * view_.channels + c;
    tables.p[i] = static_cast<float>(At(tensors_.gamma, c, 1) * correction.r / scale);
    tables.q[i] = static_cast<float>(gradient.q);
    tables.r[i] = static_cast<float>(gradient.offset);
  }
}

void ChannelNormalizer::SumParameterGradients(int64_t channel, const BackwardTables& tables) const {
  double d_gamma = 0;
  double d_beta = 0;
  double d_tau = 0;
  for (int64_t n = 0; n < view_.batch; ++n) {
    const int64_t i = n * view_.channels + channel;
    const int64_t set = n / set_examples_ * set_columns() + channel / options_.channels_per_set;
    const Correction correction = CorrectionAt(set);
    const double inverse =
        correction.r / ScaleOf(options_.formula, statistics_[Size(set)].magnitude);
    d_gamma += inverse * tables.sum_gx[i] + correction.d * tables.sum_g[i];
    d_beta += tables.sum_g[i];
    d_tau += tables.sum_floored == nullptr ? 0 : tables.sum_floored[i];
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

void ChannelNormalizer::Backward(const float* x, const float* d_y, float* d_x, std::byte* scratch) {
  ScratchCutter cutter(scratch);
  const BackwardTables tables = CutBackward(cutter);
  const int64_t entries = view_.batch * view_.channels;
  ForAll(sets(), entries,
         [&](int64_t set) { MakeCoefficients(set, tables.shift, tables.scale, tables.offset); });
  const ChannelAffine map = AffineOf(tables.shift, tables.scale, tables.offset);
  SumGradients(view_, map, x, d_y, {tables.sum_g, tables.sum_gx, tables.sum_floored});
  MakeGradients(tables);
  ForAll(view_.channels, entries, [&](int64_t c) { SumParameterGradients(c, tables); });
  const GradientTerm term = GradientOfScale(options_.formula.scale) == ScaleGradient::kSign
                                ? GradientTerm::kSign
                                : GradientTerm::kDeviation;
  ApplyGradient(view_, map, {tables.p, tables.q, tables.r, term}, x, d_y, d_x);
  for (const Place& place : places_) {
    if (place.at >= 0) {
      d_x[place.at] += place.gradient;
    }
  }
}

}  // namespace normlab::engine
