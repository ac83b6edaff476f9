#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/types/span.h"

#include "engine/dnnl/layout.h"
#include "engine/layers/normalization/channel_kernels.h"
#include "engine/layers/normalization/normalizer_math.h"
#include "engine/layers/normalization/scratch.h"
#include "engine/parallel/communicator.h"

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
  // Of sets of one channel only.
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
  // A set is the union of these ranks' batches (synchronized batch norm); then a set is the whole
  // batch here, and statistics are not given. Batches may be of unequal sizes. Null: this process's
  // batch alone. Not owned.
  Communicator* ranks = nullptr;
};

// Every normalizer that divides sets of activations by a statistic of theirs, on a tensor in any
// layout, for one shape: batch, ghost batch, batch renorm, l_p batch, mean-only batch, frozen batch,
// group, layer, instance, RMS and filter response norm. For layer, group and RMS norm of dense
// features, whose gamma and beta belong to the places inside a set, see RowNormalizer.
//
// Running statistics move in Forward: once, towards the mean over the sets (for deviations of the
// unbiased variances). Statistics are doubles; results do not depend on the number of threads.
// Over ranks, (count, mean, sum of squares about the mean) are merged in the order of ranks by the
// formula of Chan, Golub and LeVeque (1979), and so are the two sums of the gradient; every rank has
// the same statistics, bit for bit. Gradients of gamma and beta stay this rank's part.
// Forward and Backward allocate nothing: a few numbers per example and channel go into scratch
// memory, 64-byte aligned, which means nothing between passes.
//
// Thread-compatible. Owns the statistics of the sets; not the tensors.
class ChannelNormalizer {
 public:
  ChannelNormalizer(const ChannelBlocking& shape,
                    const ChannelNormalizerOptions& options,
                    const NormalizerTensors& tensors);

  int64_t forward_scratch_bytes() const;
  int64_t backward_scratch_bytes() const;

  // y may be x when there is no Backward.
  void Forward(const float* x, float* y, std::byte* scratch, bool update_running = true);
  // After Forward with the same x. Overwrites d_x and the gradients of the parameters. d_x may be
  // d_y.
  void Backward(const float* x, const float* d_y, float* d_x, std::byte* scratch);

  // Of the last Forward: of every set, ordered by example, then channel.
  absl::Span<const SetStatistics> statistics() const { return statistics_; }

 private:
  // In scratch memory.
  struct ForwardTables {
    double *mean, *second;          // per example of the view and channel
    float *shift, *scale, *offset;  // per row of sets and channel
  };
  struct BackwardTables {
    double *sum_g, *sum_gx, *sum_floored;  // per example of the view and channel
    float *shift, *scale, *offset;         // per row of sets and channel
    float *p, *q, *r;
  };

  // Sets are numbered row by row: `row` of the examples, `column` of the channels.
  int64_t set_rows() const { return view_.batch / set_examples_; }
  int64_t set_columns() const { return view_.channels / options_.channels_per_set; }
  int64_t sets() const { return set_rows() * set_columns(); }
  int64_t own_values_per_set() const {
    return set_examples_ * options_.channels_per_set * view_.area;
  }
  bool centred() const { return options_.formula.centred; }

  ForwardTables CutForward(ScratchCutter& cutter) const;
  BackwardTables CutBackward(ScratchCutter& cutter) const;

  // What statistics are made of: a mean, and a sum (or maximum) as ChannelStatistic says.
  struct SetSums {
    double mean = 0;
    double second = 0;
  };
  SetSums Combine(const ForwardTables& tables, int64_t row, int64_t column) const;
  SetStatistics StatisticsOf(const SetSums& sums) const;
  // Of all ranks, given this one's; sets values_per_set_.
  void MergeStatistics(const ForwardTables& tables);
  void MergeSet(int64_t set);
  SetStatistics Running(int64_t channel) const;
  Correction CorrectionAt(int64_t set) const;
  void ComputeStatistics(const float* x, const ForwardTables& tables);
  void FindPlaces(const float* x, const double* second);
  void UpdateRunning();
  void MakeCoefficients(int64_t set, float* shift, float* scale, float* offset) const;
  // The sums over a set from which its gradient follows.
  struct GradientSums {
    double g = 0;   // of gamma d_y
    double gx = 0;  // of gamma d_y (x - mean)
  };
  // What rounding the shift to float left of the mean.
  double LeftOfMean(int64_t set, const BackwardTables& tables) const;
  GradientSums SumSet(int64_t set, const BackwardTables& tables) const;
  void MakeGradient(int64_t set, const GradientSums& sums, const BackwardTables& tables);
  void MakeGradients(const BackwardTables& tables);
  void MakeGradientsOfRanks(const BackwardTables& tables);
  void SumParameterGradients(int64_t channel, const BackwardTables& tables) const;
  ChannelAffine AffineOf(const float* shift, const float* scale, const float* offset) const;

  const ChannelBlocking view_;  // the tensor, seen with as few examples as the sets allow
  const ChannelNormalizerOptions options_;
  const int64_t set_examples_;  // examples of the view in a set
  const NormalizerTensors tensors_;

  int64_t values_per_set_ = 0;             // of all ranks, in the last Forward
  std::vector<SetStatistics> statistics_;  // per set
  std::vector<Correction> corrections_;    // per set; empty without renorm
  std::vector<float> floor_;               // [channels] zeros; of kZero only
  struct Place {
    int64_t at = -1;
    float sign = 0;      // of x there
    float gradient = 0;  // added to d_x there
  };
  std::vector<Place> places_;  // per set; of the largest magnitude, only where it has a gradient

  // With several ranks only. What they tell each other: [1 + 2 sets] numbers of one, and of all; and
  // per set whether the largest magnitude is (first) of this rank.
  std::vector<double> mine_;
  std::vector<double> all_;
  std::vector<char> largest_is_mine_;
};

}  // namespace normlab::engine
