#include "engine/layers/normalization_kernels.h"

#include <algorithm>
#include <cmath>

#include "engine/layers/elementwise.h"
#include "engine/tensor/vectorize.h"

namespace normlab::engine {
namespace {

// Columns that are worked on together: their accumulators stay in the first-level cache.
constexpr int64_t kTile = 128;
// Rows whose sum is taken in one float accumulator before it is added to the total: bounds rounding
// errors.
constexpr int64_t kRowBlock = 32;

// A range of at most kTile columns of a matrix.
struct Tile {
  int64_t rows;
  int64_t stride;  // columns of the whole matrix
  int64_t width;   // columns of the tile
};

NORMLAB_VECTORIZE void TileSums(const Tile& tile,
                                const float* __restrict x,
                                float* __restrict sum) {
  const int64_t width = tile.width;
  float partial[kTile];
  std::fill_n(sum, width, 0.0F);
  for (int64_t begin = 0; begin < tile.rows; begin += kRowBlock) {
    const int64_t end = std::min(begin + kRowBlock, tile.rows);
    std::fill_n(partial, width, 0.0F);
    for (int64_t row = begin; row < end; ++row) {
      const float* __restrict x_row = x + row * tile.stride;
      for (int64_t c = 0; c < width; ++c) {
        partial[c] += x_row[c];
      }
    }
    for (int64_t c = 0; c < width; ++c) {
      sum[c] += partial[c];
    }
  }
}

NORMLAB_VECTORIZE void TileSquares(const Tile& tile,
                                   const float* __restrict x,
                                   const float* __restrict mean,
                                   float* __restrict sum) {
  const int64_t width = tile.width;
  float partial[kTile];
  std::fill_n(sum, width, 0.0F);
  for (int64_t begin = 0; begin < tile.rows; begin += kRowBlock) {
    const int64_t end = std::min(begin + kRowBlock, tile.rows);
    std::fill_n(partial, width, 0.0F);
    for (int64_t row = begin; row < end; ++row) {
      const float* __restrict x_row = x + row * tile.stride;
      for (int64_t c = 0; c < width; ++c) {
        const float centred = x_row[c] - mean[c];
        partial[c] += centred * centred;
      }
    }
    for (int64_t c = 0; c < width; ++c) {
      sum[c] += partial[c];
    }
  }
}

// y = (x - mean) * scale + shift
NORMLAB_VECTORIZE void TileAffine(const Tile& tile,
                                  const float* x,
                                  const float* __restrict mean,
                                  const float* __restrict scale,
                                  const float* __restrict shift,
                                  float* y) {
  const int64_t width = tile.width;
  for (int64_t row = 0; row < tile.rows; ++row) {
    const float* x_row = x + row * tile.stride;
    float* y_row = y + row * tile.stride;
#pragma GCC ivdep
    for (int64_t c = 0; c < width; ++c) {
      y_row[c] = (x_row[c] - mean[c]) * scale[c] + shift[c];
    }
  }
}

// sum_g = sum g, sum_gx = sum g (x - mean)
NORMLAB_VECTORIZE void TileGradientSums(const Tile& tile,
                                        const float* __restrict x,
                                        const float* __restrict g,
                                        const float* __restrict mean,
                                        float* __restrict sum_g,
                                        float* __restrict sum_gx) {
  const int64_t width = tile.width;
  float partial_g[kTile];
  float partial_gx[kTile];
  std::fill_n(sum_g, width, 0.0F);
  std::fill_n(sum_gx, width, 0.0F);
  for (int64_t begin = 0; begin < tile.rows; begin += kRowBlock) {
    const int64_t end = std::min(begin + kRowBlock, tile.rows);
    std::fill_n(partial_g, width, 0.0F);
    std::fill_n(partial_gx, width, 0.0F);
    for (int64_t row = begin; row < end; ++row) {
      const float* __restrict x_row = x + row * tile.stride;
      const float* __restrict g_row = g + row * tile.stride;
      for (int64_t c = 0; c < width; ++c) {
        partial_g[c] += g_row[c];
        partial_gx[c] += g_row[c] * (x_row[c] - mean[c]);
      }
    }
    for (int64_t c = 0; c < width; ++c) {
      sum_g[c] += partial_g[c];
      sum_gx[c] += partial_gx[c];
    }
  }
}

// d_x = scale * (g - mean_g - (x - mean) * slope)
NORMLAB_VECTORIZE void TileGradient(const Tile& tile,
                                    const float* x,
                                    const float* g,
                                    const float* __restrict mean,
                                    const float* __restrict scale,
                                    const float* __restrict mean_g,
                                    const float* __restrict slope,
                                    float* d_x) {
  const int64_t width = tile.width;
  for (int64_t row = 0; row < tile.rows; ++row) {
    const float* x_row = x + row * tile.stride;
    const float* g_row = g + row * tile.stride;
    float* d_row = d_x + row * tile.stride;
#pragma GCC ivdep
    for (int64_t c = 0; c < width; ++c) {
      d_row[c] = scale[c] * (g_row[c] - mean_g[c] - (x_row[c] - mean[c]) * slope[c]);
    }
  }
}

// Calls work(first column, tile) for all tiles, in parallel when the matrix is large.
template <typename Work>
void ForEachTile(const NormalizedMatrix& shape, const Work& work) {
  const int64_t tiles = (shape.columns + kTile - 1) / kTile;
#pragma omp parallel for schedule(static) if (shape.rows * shape.columns > kSmallTensorElements)
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t first = t * kTile;
    work(first, Tile{shape.rows, shape.columns, std::min(kTile, shape.columns - first)});
  }
}

float InverseDeviation(float var, double epsilon) {
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(var) + epsilon));
}

}  // namespace

void ColumnStatistics(const NormalizedMatrix& shape, const float* x, float* mean, float* var) {
  const auto rows = static_cast<float>(shape.rows);
  ForEachTile(shape, [&](int64_t first, const Tile& tile) {
    TileSums(tile, x + first, mean + first);
    for (int64_t c = first; c < first + tile.width; ++c) {
      mean[c] /= rows;
    }
    TileSquares(tile, x + first, mean + first, var + first);
    for (int64_t c = first; c < first + tile.width; ++c) {
      var[c] /= rows;
    }
  });
}

void NormalizeColumns(const NormalizedMatrix& shape,
                      double epsilon,
                      const float* x,
                      const float* mean,
                      const float* var,
                      const float* gamma,
                      const float* beta,
                      float* y) {
  ForEachTile(shape, [&](int64_t first, const Tile& tile) {
    float scale[kTile];
    float shift[kTile];
    for (int64_t c = 0; c < tile.width; ++c) {
      const float inv_std = InverseDeviation(var[first + c], epsilon);
      scale[c] = gamma == nullptr ? inv_std : gamma[first + c] * inv_std;
      shift[c] = beta == nullptr ? 0.0F : beta[first + c];
    }
    TileAffine(tile, x + first, mean + first, scale, shift, y + first);
  });
}

void NormalizeColumnsBackward(const NormalizedMatrix& shape,
                              double epsilon,
                              const float* x,
                              const float* mean,
                              const float* var,
                              const float* gamma,
                              const float* d_y,
                              float* d_x,
                              float* d_gamma,
                              float* d_beta) {
  const auto rows = static_cast<float>(shape.rows);
  ForEachTile(shape, [&](int64_t first, const Tile& tile) {
    float sum_g[kTile];
    float sum_gx[kTile];
    float scale[kTile];
    TileGradientSums(tile, x + first, d_y + first, mean + first, sum_g, sum_gx);
    for (int64_t c = 0; c < tile.width; ++c) {
      const float inv_std = InverseDeviation(var[first + c], epsilon);
      if (d_gamma != nullptr) {
        d_gamma[first + c] = sum_gx[c] * inv_std;
      }
      if (d_beta != nullptr) {
        d_beta[first + c] = sum_g[c];
      }
      scale[c] = gamma == nullptr ? inv_std : gamma[first + c] * inv_std;
      sum_g[c] /= rows;
      sum_gx[c] = sum_gx[c] * inv_std * inv_std / rows;
    }
    TileGradient(tile, x + first, d_y + first, mean + first, scale, sum_g, sum_gx, d_x + first);
  });
}

void UpdateRunningStatistics(int64_t channels,
                             int64_t set,
                             double rate,
                             const float* mean,
                             const float* var,
                             float* running_mean,
                             float* running_var) {
  const double unbiased = static_cast<double>(set) / static_cast<double>(set - 1);
  const double kept = 1.0 - rate;
  for (int64_t c = 0; c < channels; ++c) {
    running_mean[c] = static_cast<float>(kept * running_mean[c] + rate * mean[c]);
    running_var[c] = static_cast<float>(kept * running_var[c] + rate * unbiased * var[c]);
  }
}

}  // namespace normlab::engine
