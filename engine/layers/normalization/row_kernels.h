#pragma once

#include <cstdint>

// Loops over plain matrices [rows, columns] whose rows consist of `groups` sets of neighbouring
// columns. Tables per set are [rows, groups]. Sums do not depend on the number of threads; float
// terms are added in short runs, the runs in double. Thread-safe on different outputs.
namespace normlab::engine {

struct RowGroups {
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t groups = 1;
  int64_t group_size() const { return columns / groups; }
};

// y = gamma (inverse (x - shift) + offset) + beta, and not below 0 with `relu` (NaN stays NaN).
// Tables per set; gamma and beta [columns], never null.
struct RowAffine {
  const float* shift = nullptr;
  const float* inverse = nullptr;
  const float* offset = nullptr;
  const float* gamma = nullptr;
  const float* beta = nullptr;
  bool relu = false;
};

// y may be x.
void ApplyRowAffine(const RowGroups& shape, const RowAffine& affine, const float* x, float* y);

// Per set: sum_g = sum gamma g, sum_gx = sum gamma g (x - shift), where g is d_y, or 0 where a relu
// cut the output off.
void SumRowGradients(const RowGroups& shape,
                     const RowAffine& affine,
                     const float* x,
                     const float* d_y,
                     double* sum_g,
                     double* sum_gx);

// Per column, over the rows: d_gamma = sum g (inverse (x - shift) + offset), d_beta = sum g. Either
// may be null.
void SumColumnGradients(const RowGroups& shape,
                        const RowAffine& affine,
                        const float* x,
                        const float* d_y,
                        float* d_gamma,
                        float* d_beta);

// d_x = inverse gamma g + q (x - shift) + r; q and r are tables per set. d_x may be d_y.
void ApplyRowGradient(const RowGroups& shape,
                      const RowAffine& affine,
                      const float* q,
                      const float* r,
                      const float* x,
                      const float* d_y,
                      float* d_x);

}  // namespace normlab::engine
