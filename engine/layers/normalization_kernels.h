#pragma once

#include <cstdint>

namespace normlab::engine {

// Batch normalization of plain [rows, columns] matrices, per column, for shapes on which oneDNN has
// no fast kernel (widths that are not multiples of 16) or whose work is smaller than a parallel
// region. Columns are shared out among threads when there is much to do; every column is summed by
// one thread in one order, so results do not depend on the number of threads. All pointers are to
// arrays of `columns` floats unless said otherwise.

struct NormalizedMatrix {
  int64_t rows = 0;
  int64_t columns = 0;
};

// Mean and biased variance of every column of x [rows, columns] (two passes; float sums over short
// blocks of rows).
void ColumnStatistics(const NormalizedMatrix& shape, const float* x, float* mean, float* var);

// y = gamma (x - mean) / sqrt(var + epsilon) + beta; gamma and beta may be null (1 and 0). y may be
// x.
void NormalizeColumns(const NormalizedMatrix& shape,
                      double epsilon,
                      const float* x,
                      const float* mean,
                      const float* var,
                      const float* gamma,
                      const float* beta,
                      float* y);

// The gradient through NormalizeColumns where mean and var are those of x itself (Ioffe and Szegedy
// 2015):
//   d_x = gamma / s (d_y - mean(d_y) - xh mean(d_y xh)), d_gamma = sum d_y xh, d_beta = sum d_y,
// with s = sqrt(var + epsilon), xh = (x - mean) / s. gamma, d_gamma and d_beta may be null; d_x may
// be d_y.
void NormalizeColumnsBackward(const NormalizedMatrix& shape,
                              double epsilon,
                              const float* x,
                              const float* mean,
                              const float* var,
                              const float* gamma,
                              const float* d_y,
                              float* d_x,
                              float* d_gamma,
                              float* d_beta);

// running <- (1 - rate) running + rate new, where the new variance is the unbiased one: var * set /
// (set - 1). `set` > 1 is the number of values per channel behind mean and var (biased).
void UpdateRunningStatistics(int64_t channels,
                             int64_t set,
                             double rate,
                             const float* mean,
                             const float* var,
                             float* running_mean,
                             float* running_var);

}  // namespace normlab::engine
