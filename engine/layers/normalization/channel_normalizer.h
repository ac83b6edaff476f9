#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/types/span.h"

#include "engine/layers/normalization/channel_blocking.h"
#include "engine/layers/normalization/channel_kernels.h"
#include "engine/layers/normalization/normalizer_math.h"

namespace normlab::engine {

// Where the parameters of a normalizer are, each [channels]; not owned. Null: no such tensor (gamma
// 1, beta 0; gradients not wanted).
struct NormalizerTensors {
  const float* gamma = nullptr;
  const float* beta = nullptr;
  const float* tau = nullptr;
  float* d_gamma = nullptr;
  float* d_beta = nullptr;
  float* d_tau = nullptr;
  float* running_mean = nullptr;
  float* running_var = nullptr;  // or the running scale: RunningFromMagnitude
};

enum class OutputFloor {
  kNone,
  kZero,  // a ReLU that follows, computed in the same pass; not with kMeanAbsolute
  kTau,   // the learned threshold of filter response normalization (TLU)
};

struct ChannelNormalizerOptions {
  NormalizerFormula formula;
  // A set is so many examples of so many neighbouring channels, over the whole area. Batch: (batch,
  // 1); ghost: (ghost size, 1); group: (1, C/G); layer: (1, C); instance and filter response: (1, 1).
  // Both must divide.
  int64_t examples_per_set = 1;
  int64_t channels_per_set = 1;
  // Normalize with running_mean and running_var (evaluation, frozen) instead of the set's own
  // statistics; the gradient then does not go through them, and they never change.
  bool given_statistics = false;
  double running_update_rate = 0.1;  // weight of the NEW batch
  std::optional<CorrectionLimits> renorm;
  OutputFloor floor = OutputFloor::kNone;
  bool backward = true;  // false: Backward is never called, and its tables are not kept
};

// Every normalizer that divides sets of activations by a statistic of theirs, on a tensor in any
// layout, for one shape: batch, ghost batch, batch renorm, l_p batch, mean-only batch, frozen batch,
// group, layer, instance, RMS and filter response norm. For layer, group and RMS norm of dense
// features, whose gamma and beta belong to the places inside a set, see RowNormalizer.
//
// Running statistics move in Forward: once, towards the mean over the sets (for deviations of the
// unbiased variances). Statistics are doubles; results do not depend on the number of threads.
// Forward and Backward allocate nothing.
//
// Thread-compatible. Owns its tables, a few numbers per example and channel; not the tensors.
class ChannelNormalizer {
 public:
  ChannelNormalizer(const ChannelBlocking& shape,
                    const ChannelNormalizerOptions& options,
                    const NormalizerTensors& tensors);

  // y may be x when there is no Backward.
  void Forward(const float* x, float* y);
  // After Forward with the same x. Overwrites d_x and the gradients of the parameters. d_x may be
  // d_y.
  void Backward(const float* x, const float* d_y, float* d_x);

  // Of the last Forward: of every set, ordered by example, then channel.
  absl::Span<const SetStatistics> statistics() const { return statistics_; }
  // Memory of the tables.
  int64_t bytes() const;

 private:
  // Sets are numbered row by row: `row` of the examples, `column` of the channels.
  int64_t set_rows() const { return view_.batch / set_examples_; }
  int64_t set_columns() const { return view_.channels / options_.channels_per_set; }
  int64_t values_per_set() const { return set_examples_ * options_.channels_per_set * view_.area; }
  bool centred() const { return options_.formula.centred; }

  SetStatistics Combine(int64_t row, int64_t column) const;
  SetStatistics Running(int64_t channel) const;
  void UpdateRunning();
  void MakeCoefficients(int64_t row, int64_t column);
  void MakeGradient(int64_t row, int64_t column);
  void SumParameterGradients(int64_t channel);
  void FindPlaces(const float* x);
  ChannelAffine affine() const;

  const ChannelBlocking view_;  // the tensor, seen with as few examples as the sets allow
  const ChannelNormalizerOptions options_;
  const int64_t set_examples_;  // examples of the view in a set
  const NormalizerTensors tensors_;

  // Per example of the view and channel.
  std::vector<double> mean_, second_;
  std::vector<double> sum_g_, sum_gx_, sum_floored_;
  // Per set.
  std::vector<SetStatistics> statistics_;
  std::vector<Correction> corrections_;
  // Per row of sets and channel.
  std::vector<float> shift_, scale_, offset_, p_, q_, r_;
  std::vector<float> floor_;  // [channels]
  struct Place {
    int64_t at = -1;
    float value = 0;  // added to d_x there
  };
  std::vector<Place> places_;  // per set; only for the largest magnitude
};

}  // namespace normlab::engine
