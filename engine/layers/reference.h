#pragma once

#include <cstdint>
#include <vector>

#include "engine/graph/graph.h"

// Every layer once more, in double precision, as plain loops that follow the definitions: what the
// implementations are checked against. Slow on purpose and independent of them; used by tests only.
// All tensors are row-major.
namespace normlab::engine::reference {

using Tensor = std::vector<double>;

struct LinearShape {
  int64_t batch, in, out;
};

struct WeightGradients {
  Tensor d_x, d_w, d_b;
};

// y [N,O] = x [N,I] w^T + b; w [O,I]; b [O] or empty.
Tensor LinearForward(const LinearShape& shape, const Tensor& x, const Tensor& w, const Tensor& b);
WeightGradients LinearBackward(const LinearShape& shape,
                               const Tensor& x,
                               const Tensor& w,
                               const Tensor& d_y);

struct ImageShape {
  int64_t batch, channels, height, width;
  int64_t at(int64_t n, int64_t c, int64_t h, int64_t w) const {
    return ((n * channels + c) * height + h) * width + w;
  }
  int64_t count() const { return batch * channels * height * width; }
};

struct ConvShape {
  ImageShape in;
  int64_t out_channels, kernel, stride, padding;
  int64_t groups = 1;
  ImageShape out() const {
    return {in.batch, out_channels, (in.height + 2 * padding - kernel) / stride + 1,
            (in.width + 2 * padding - kernel) / stride + 1};
  }
};

// Cross-correlation with w [O,I/groups,K,K]; b [O] or empty.
Tensor ConvForward(const ConvShape& shape, const Tensor& x, const Tensor& w, const Tensor& b);
WeightGradients ConvBackward(const ConvShape& shape,
                             const Tensor& x,
                             const Tensor& w,
                             const Tensor& d_y);

// x [batch, channels, area], normalized per channel over batch and area.
struct NormShape {
  int64_t batch, channels, area;
  int64_t at(int64_t n, int64_t c, int64_t a) const { return (n * channels + c) * area + a; }
  int64_t set() const { return batch * area; }
};

struct Statistics {
  Tensor mean;
  Tensor var;  // biased
};

Statistics BatchStatistics(const NormShape& shape, const Tensor& x);

// gamma (x - mean) / sqrt(var + epsilon) + beta with given statistics; gamma and beta empty: 1 and
// 0.
Tensor Normalize(const NormShape& shape,
                 double epsilon,
                 const Tensor& x,
                 const Statistics& statistics,
                 const Tensor& gamma,
                 const Tensor& beta);

struct NormGradients {
  Tensor d_x, d_gamma, d_beta;
};

// The gradient of Normalize with the batch's own statistics, by the chain rule through variance and
// mean (Ioffe and Szegedy 2015, section 3).
NormGradients BatchNormBackward(const NormShape& shape,
                                double epsilon,
                                const Tensor& x,
                                const Tensor& gamma,
                                const Tensor& d_y);

// One update of running statistics with the unbiased variance; `rate` is the weight of the new
// batch.
void UpdateRunning(const NormShape& shape,
                   double rate,
                   const Statistics& batch,
                   Statistics& running);

Tensor ActivationForward(ActivationKind kind, const Tensor& x);
Tensor ActivationBackward(ActivationKind kind, const Tensor& x, const Tensor& d_y);

struct PoolShape {
  ImageShape in;
  PoolKind kind;
  int64_t window, stride;
  ImageShape out() const {
    return {in.batch, in.channels, (in.height - window) / stride + 1,
            (in.width - window) / stride + 1};
  }
};

Tensor PoolForward(const PoolShape& shape, const Tensor& x);
// Of equal maxima the first, row by row, gets the gradient.
Tensor PoolBackward(const PoolShape& shape, const Tensor& x, const Tensor& d_y);

struct Loss {
  double mean = 0;
  int64_t correct = 0;
  Tensor d_logits;
};

// Mean of -log softmax(logits [N,C])[label], and its gradient.
Loss SoftmaxCrossEntropy(int64_t batch,
                         int64_t classes,
                         const Tensor& logits,
                         const std::vector<int32_t>& labels);

}  // namespace normlab::engine::reference
