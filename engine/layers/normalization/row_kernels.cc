#include "engine/layers/normalization/row_kernels.h"

#include <algorithm>

#include "engine/layers/normalization/channel_tiles.h"
#include "engine/tensor/vectorize.h"

// "ivdep": input and output are the same array or do not overlap, so iterations are independent.

namespace normlab::engine {
namespace {

// A set as a tile of one channel, see channel_tiles.h; columns of the matrix follow each other.
struct Set {
  float shift, inverse, offset;
  const float* gamma;
  const float* beta;
};

// Anything without a relu is above this.
constexpr float kNoFloor = -__builtin_inff();

NORMLAB_VECTORIZE void AffineSet(
    const Set& set, bool relu, int64_t size, const float* x, float* y) {
  const float* __restrict gamma = set.gamma;
  const float* __restrict beta = set.beta;
  const float floor = relu ? 0.0F : kNoFloor;
#pragma GCC ivdep
  for (int64_t c = 0; c < size; ++c) {
    const float z = gamma[c] * (set.inverse * (x[c] - set.shift) + set.offset) + beta[c];
    y[c] = z < floor ? floor : z;  // in this form NaN stays NaN
  }
}

NORMLAB_VECTORIZE void GradientSet(const Set& set,
                                   bool relu,
                                   float q,
                                   float r,
                                   int64_t size,
                                   const float* x,
                                   const float* g,
                                   float* d_x) {
  const float* __restrict gamma = set.gamma;
  const float* __restrict beta = set.beta;
  const float floor = relu ? 0.0F : kNoFloor;
#pragma GCC ivdep
  for (int64_t c = 0; c < size; ++c) {
    const float deviation = x[c] - set.shift;
    const float z = gamma[c] * (set.inverse * deviation + set.offset) + beta[c];
    // Without a relu even -infinity and NaN pass.
    const float active = z <= floor && relu ? 0.0F : g[c];
    d_x[c] = set.inverse * gamma[c] * active + (q * deviation + r);
  }
}

NORMLAB_VECTORIZE void SumSet(const ChannelTile& tile,
                              const Set& set,
                              bool relu,
                              const float* __restrict x,
                              const float* __restrict g,
                              double* __restrict sum_g,
                              double* __restrict sum_gx) {
  float partial_g[kTileWidth];
  float partial_gx[kTileWidth];
  std::fill_n(sum_g, tile.width, 0.0);
  std::fill_n(sum_gx, tile.width, 0.0);
  for (int64_t begin = 0; begin < tile.rows; begin += kFloatRun) {
    const int64_t end = std::min(begin + kFloatRun, tile.rows);
    std::fill_n(partial_g, tile.width, 0.0F);
    std::fill_n(partial_gx, tile.width, 0.0F);
    for (int64_t row = begin; row < end; ++row) {
      const int64_t first = row * tile.stride;
      const int64_t width = tile.width_of(row);
      for (int64_t c = 0; c < width; ++c) {
        const float gamma = set.gamma[first + c];
        const float deviation = x[first + c] - set.shift;
        const float z = gamma * (set.inverse * deviation + set.offset) + set.beta[first + c];
        const float active = z <= 0.0F && relu ? 0.0F : gamma * g[first + c];
        partial_g[c] += active;
        partial_gx[c] += active * deviation;
      }
    }
    for (int64_t c = 0; c < tile.width; ++c) {
      sum_g[c] += static_cast<double>(partial_g[c]);
      sum_gx[c] += static_cast<double>(partial_gx[c]);
    }
  }
}

// Adds one row's part of the column sums; `size` columns that belong to one set.
NORMLAB_VECTORIZE void AddToColumns(const Set& set,
                                    bool relu,
                                    int64_t size,
                                    const float* __restrict x,
                                    const float* __restrict g,
                                    float* __restrict sum_g,
                                    float* __restrict sum_gx) {
  const float* __restrict gamma = set.gamma;
  const float* __restrict beta = set.beta;
  for (int64_t c = 0; c < size; ++c) {
    const float normalized = set.inverse * (x[c] - set.shift) + set.offset;
    const float z = gamma[c] * normalized + beta[c];
    const float active = z <= 0.0F && relu ? 0.0F : g[c];
    sum_g[c] += active;
    sum_gx[c] += active * normalized;
  }
}

Set SetAt(const RowAffine& affine, int64_t table_index, int64_t first_column) {
  return {affine.shift[table_index], affine.inverse[table_index], affine.offset[table_index],
          affine.gamma + first_column, affine.beta + first_column};
}

// Calls work(set number, first column, first float) for every set, in parallel when there are many
// floats.
template <typename Work>
void ForEachSet(const RowGroups& shape, const Work& work) {
  const int64_t sets = shape.rows * shape.groups;
#pragma omp parallel for schedule(static) if (shape.rows * shape.columns > kSmallTensorElements)
  for (int64_t i = 0; i < sets; ++i) {
    work(i, i % shape.groups * shape.group_size(), i * shape.group_size());
  }
}

}  // namespace

void ApplyRowAffine(const RowGroups& shape, const RowAffine& affine, const float* x, float* y) {
  ForEachSet(shape, [&](int64_t i, int64_t column, int64_t first) {
    AffineSet(SetAt(affine, i, column), affine.relu, shape.group_size(), x + first, y + first);
  });
}

void SumRowGradients(const RowGroups& shape,
                     const RowAffine& affine,
                     const float* x,
                     const float* d_y,
                     double* sum_g,
                     double* sum_gx) {
  const ChannelBlocking sets = {shape.rows, shape.groups, shape.group_size(), 1};
  ForEachTile(sets, [&](const ChannelTile& tile) {
    double columns_g[kTileWidth];
    double columns_gx[kTileWidth];
    const int64_t i = tile.example * shape.groups + tile.first_channel;
    const Set set = SetAt(affine, i, tile.first_channel * shape.group_size());
    SumSet(tile, set, affine.relu, x + tile.offset, d_y + tile.offset, columns_g, columns_gx);
    FoldColumns(tile, columns_g, sum_g + tile.example * shape.groups);
    FoldColumns(tile, columns_gx, sum_gx + tile.example * shape.groups);
  });
}

void SumColumnGradients(const RowGroups& shape,
                        const RowAffine& affine,
                        const float* x,
                        const float* d_y,
                        float* d_gamma,
                        float* d_beta) {
  const int64_t tiles = (shape.columns + kTileWidth - 1) / kTileWidth;
  const int64_t size = shape.group_size();
#pragma omp parallel for schedule(static) if (shape.rows * shape.columns > kSmallTensorElements)
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t begin = t * kTileWidth;
    const int64_t width = std::min(kTileWidth, shape.columns - begin);
    double sum_g[kTileWidth] = {};
    double sum_gx[kTileWidth] = {};
    for (int64_t run = 0; run < shape.rows; run += kFloatRun) {
      float partial_g[kTileWidth] = {};
      float partial_gx[kTileWidth] = {};
      for (int64_t row = run; row < std::min(run + kFloatRun, shape.rows); ++row) {
        for (int64_t c = begin; c < begin + width;) {
          const int64_t group = c / size;
          const int64_t end = std::min((group + 1) * size, begin + width);
          const int64_t at = row * shape.columns + c;
          AddToColumns(SetAt(affine, row * shape.groups + group, c), affine.relu, end - c, x + at,
                       d_y + at, partial_g + (c - begin), partial_gx + (c - begin));
          c = end;
        }
      }
      for (int64_t c = 0; c < width; ++c) {
        sum_g[c] += static_cast<double>(partial_g[c]);
        sum_gx[c] += static_cast<double>(partial_gx[c]);
      }
    }
    for (int64_t c = 0; c < width; ++c) {
      if (d_gamma != nullptr) {
        d_gamma[begin + c] = static_cast<float>(sum_gx[c]);
      }
      if (d_beta != nullptr) {
        d_beta[begin + c] = static_cast<float>(sum_g[c]);
      }
    }
  }
}

void ApplyRowGradient(const RowGroups& shape,
                      const RowAffine& affine,
                      const float* q,
                      const float* r,
                      const float* x,
                      const float* d_y,
                      float* d_x) {
  ForEachSet(shape, [&](int64_t i, int64_t column, int64_t first) {
    GradientSet(SetAt(affine, i, column), affine.relu, q[i], r[i], shape.group_size(), x + first,
                d_y + first, d_x + first);
  });
}

}  // namespace normlab::engine
