#pragma once

#include <cstdint>

#include "engine/dnnl/layout.h"

// The loops of normalizers over activations, in any layout that convolutions produce: sums per
// example and channel, and maps whose coefficients depend on example and channel. What the sums mean
// is decided elsewhere (normalizer_math.h).
//
// All of them: x, y, d_y, d_x lie as the ChannelBlocking says; padding is not read and is written as
// 0. Tables per example and channel are [batch, channels]. Every sum is made by one thread in one
// order, so results do not depend on the number of threads; float terms are added in runs of 32, the
// runs in double. Nothing is allocated. Thread-safe on different outputs.
namespace normlab::engine {

enum class ChannelStatistic {
  kCentredSquares,  // sum of (x - mean)^2
  kSquares,         // sum of x^2
  kAbsolutes,       // sum of |x|
  kMaximum,         // largest |x|; NaN if any x is NaN
};

// mean [batch, channels] over the area, and second [batch, channels] as `statistic` says.
//
// Centred squares are sums about a shift near the mean, the mean of the first eighth of the values,
// so nothing cancels however far from 0 the values are: with s the mean of k of n values,
// (s - mean)^2 <= (n/k - 1) var, that is, at most about 8 times what a perfect shift would leave.
// A constant channel has exactly 0.
void ComputeMoments(const ChannelBlocking& shape,
                    ChannelStatistic statistic,
                    const float* x,
                    double* mean,
                    double* second);

// y = scale (x - shift) + offset, and not below `floor` where that is given (NaN stays NaN).
struct ChannelAffine {
  // Tables [ceil(batch / examples_per_row), channels]: example n uses row n / examples_per_row.
  const float* shift = nullptr;
  const float* scale = nullptr;
  const float* offset = nullptr;
  int64_t examples_per_row = 1;
  // [channels] or null: zeros make it a ReLU.
  const float* floor = nullptr;
};

// y may be x.
void ApplyAffine(const ChannelBlocking& shape,
                 const ChannelAffine& affine,
                 const float* x,
                 float* y);

// Per example and channel, over the area; all [batch, channels]. With a floor, only where the output
// is above it counts: the gradient does not pass elsewhere.
struct ChannelGradientSums {
  double* d_y = nullptr;      // sum of d_y
  double* d_y_x = nullptr;    // sum of d_y (x - shift)
  double* floored = nullptr;  // sum of d_y where the output is the floor; null without a floor
};

void SumGradients(const ChannelBlocking& shape,
                  const ChannelAffine& affine,
                  const float* x,
                  const float* d_y,
                  const ChannelGradientSums& sums);

// per_channel [channels] = the sum over the examples of a table per example and channel.
void SumOverExamples(const ChannelBlocking& shape, const double* table, float* per_channel);

enum class GradientTerm {
  kDeviation,  // h(x) = x - shift
  kSign,       // h(x) = sign(x), 0 at 0; not together with a floor
};

// d_x = p d_y + q h(x) + r; tables like those of ChannelAffine.
struct ChannelGradient {
  const float* p = nullptr;
  const float* q = nullptr;
  const float* r = nullptr;
  GradientTerm term = GradientTerm::kDeviation;
};

// With a floor in `affine`, d_y counts as 0 where the output is the floor. d_x may be d_y or x.
void ApplyGradient(const ChannelBlocking& shape,
                   const ChannelAffine& affine,
                   const ChannelGradient& gradient,
                   const float* x,
                   const float* d_y,
                   float* d_x);

// Where in memory the first value of example n, channel c is whose magnitude is `value`; -1: none.
int64_t FindMagnitude(
    const ChannelBlocking& shape, int64_t n, int64_t c, float value, const float* x);

// Dynamic tanh, t = tanh(alpha x): y = gamma t + beta. gamma and beta [channels], null: 1 and 0. y
// may be x.
void TanhForward(const ChannelBlocking& shape,
                 float alpha,
                 const float* gamma,
                 const float* beta,
                 const float* x,
                 float* y);

// Its gradient: d_x = d_y gamma alpha (1 - t^2), and per example and channel [batch, channels] the
// sums of d_y, of d_y t and of d_y x (1 - t^2), from which those of beta, gamma and alpha follow.
// d_x may be d_y.
struct TanhSums {
  double* d_y = nullptr;
  double* d_y_t = nullptr;
  double* d_y_slope = nullptr;
};
void TanhBackward(const ChannelBlocking& shape,
                  float alpha,
                  const float* gamma,
                  const float* x,
                  const float* d_y,
                  float* d_x,
                  const TanhSums& sums);

}  // namespace normlab::engine
