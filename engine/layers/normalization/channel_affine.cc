#include "engine/layers/normalization/channel_kernels.h"
#include "engine/layers/normalization/channel_tiles.h"
#include "engine/tensor/vectorize.h"

// "ivdep": input and output are the same array or do not overlap, so iterations are independent.

namespace normlab::engine {
namespace {

// The coefficients of one tile along its rows.
struct Columns {
  float shift[kTileWidth];
  float scale[kTileWidth];
  float offset[kTileWidth];
  float floor[kTileWidth];
};

struct GradientColumns {
  float p[kTileWidth];
  float q[kTileWidth];
  float r[kTileWidth];
};

NORMLAB_VECTORIZE void AffineTile(const ChannelTile& tile,
                                  const Columns& k,
                                  const float* x,
                                  float* y) {
  for (int64_t row = 0; row < tile.rows; ++row) {
    const float* x_row = x + row * tile.stride;
    float* y_row = y + row * tile.stride;
    const int64_t width = tile.width_of(row);
#pragma GCC ivdep
    for (int64_t c = 0; c < width; ++c) {
      y_row[c] = k.scale[c] * (x_row[c] - k.shift[c]) + k.offset[c];
    }
  }
}

NORMLAB_VECTORIZE void FlooredAffineTile(const ChannelTile& tile,
                                         const Columns& k,
                                         const float* x,
                                         float* y) {
  for (int64_t row = 0; row < tile.rows; ++row) {
    const float* x_row = x + row * tile.stride;
    float* y_row = y + row * tile.stride;
    const int64_t width = tile.width_of(row);
#pragma GCC ivdep
    for (int64_t c = 0; c < width; ++c) {
      const float z = k.scale[c] * (x_row[c] - k.shift[c]) + k.offset[c];
      y_row[c] = z <= k.floor[c] ? k.floor[c] : z;  // in this form NaN stays NaN
    }
  }
}

NORMLAB_VECTORIZE void SumTile(const ChannelTile& tile,
                               const Columns& k,
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
      const float* __restrict x_row = x + row * tile.stride;
      const float* __restrict g_row = g + row * tile.stride;
      const int64_t width = tile.width_of(row);
      for (int64_t c = 0; c < width; ++c) {
        partial_g[c] += g_row[c];
        partial_gx[c] += g_row[c] * (x_row[c] - k.shift[c]);
      }
    }
    for (int64_t c = 0; c < tile.width; ++c) {
      sum_g[c] += static_cast<double>(partial_g[c]);
      sum_gx[c] += static_cast<double>(partial_gx[c]);
    }
  }
}

NORMLAB_VECTORIZE void FlooredSumTile(const ChannelTile& tile,
                                      const Columns& k,
                                      const float* __restrict x,
                                      const float* __restrict g,
                                      double* __restrict sum_g,
                                      double* __restrict sum_gx,
                                      double* __restrict sum_floored) {
  float partial_g[kTileWidth];
  float partial_gx[kTileWidth];
  float partial_floored[kTileWidth];
  std::fill_n(sum_g, tile.width, 0.0);
  std::fill_n(sum_gx, tile.width, 0.0);
  std::fill_n(sum_floored, tile.width, 0.0);
  for (int64_t begin = 0; begin < tile.rows; begin += kFloatRun) {
    const int64_t end = std::min(begin + kFloatRun, tile.rows);
    std::fill_n(partial_g, tile.width, 0.0F);
    std::fill_n(partial_gx, tile.width, 0.0F);
    std::fill_n(partial_floored, tile.width, 0.0F);
    for (int64_t row = begin; row < end; ++row) {
      const float* __restrict x_row = x + row * tile.stride;
      const float* __restrict g_row = g + row * tile.stride;
      const int64_t width = tile.width_of(row);
      for (int64_t c = 0; c < width; ++c) {
        const float deviation = x_row[c] - k.shift[c];
        const float z = k.scale[c] * deviation + k.offset[c];
        const float active = z > k.floor[c] ? g_row[c] : 0.0F;
        partial_g[c] += active;
        partial_gx[c] += active * deviation;
        partial_floored[c] += g_row[c] - active;
      }
    }
    for (int64_t c = 0; c < tile.width; ++c) {
      sum_g[c] += static_cast<double>(partial_g[c]);
      sum_gx[c] += static_cast<double>(partial_gx[c]);
      sum_floored[c] += static_cast<double>(partial_floored[c]);
    }
  }
}

NORMLAB_VECTORIZE void GradientTile(const ChannelTile& tile,
                                    const Columns& k,
                                    const GradientColumns& d,
                                    const float* x,
                                    const float* g,
                                    float* d_x) {
  for (int64_t row = 0; row < tile.rows; ++row) {
    const float* x_row = x + row * tile.stride;
    const float* g_row = g + row * tile.stride;
    float* d_row = d_x + row * tile.stride;
    const int64_t width = tile.width_of(row);
#pragma GCC ivdep
    for (int64_t c = 0; c < width; ++c) {
      d_row[c] = d.p[c] * g_row[c] + (d.q[c] * (x_row[c] - k.shift[c]) + d.r[c]);
    }
  }
}

NORMLAB_VECTORIZE void FlooredGradientTile(const ChannelTile& tile,
                                           const Columns& k,
                                           const GradientColumns& d,
                                           const float* x,
                                           const float* g,
                                           float* d_x) {
  for (int64_t row = 0; row < tile.rows; ++row) {
    const float* x_row = x + row * tile.stride;
    const float* g_row = g + row * tile.stride;
    float* d_row = d_x + row * tile.stride;
    const int64_t width = tile.width_of(row);
#pragma GCC ivdep
    for (int64_t c = 0; c < width; ++c) {
      const float deviation = x_row[c] - k.shift[c];
      const float z = k.scale[c] * deviation + k.offset[c];
      const float active = z > k.floor[c] ? g_row[c] : 0.0F;
      d_row[c] = d.p[c] * active + (d.q[c] * deviation + d.r[c]);
    }
  }
}

NORMLAB_VECTORIZE void SignGradientTile(
    const ChannelTile& tile, const GradientColumns& d, const float* x, const float* g, float* d_x) {
  for (int64_t row = 0; row < tile.rows; ++row) {
    const float* x_row = x + row * tile.stride;
    const float* g_row = g + row * tile.stride;
    float* d_row = d_x + row * tile.stride;
    const int64_t width = tile.width_of(row);
#pragma GCC ivdep
    for (int64_t c = 0; c < width; ++c) {
      const float sign = (x_row[c] > 0.0F ? 1.0F : 0.0F) - (x_row[c] < 0.0F ? 1.0F : 0.0F);
      d_row[c] = d.p[c] * g_row[c] + (d.q[c] * sign + d.r[c]);
    }
  }
}

void Spread(const ChannelBlocking& shape,
            const ChannelTile& tile,
            const ChannelAffine& affine,
            Columns& k) {
  const int64_t row = tile.example / affine.examples_per_row * shape.channels;
  SpreadOverColumns(tile, affine.shift + row, k.shift);
  SpreadOverColumns(tile, affine.scale + row, k.scale);
  SpreadOverColumns(tile, affine.offset + row, k.offset);
  if (affine.floor != nullptr) {
    SpreadOverColumns(tile, affine.floor, k.floor);
  }
}

}  // namespace

void ApplyAffine(const ChannelBlocking& shape,
                 const ChannelAffine& affine,
                 const float* x,
                 float* y) {
  ForEachTile(shape, [&](const ChannelTile& tile) {
    Columns k;
    Spread(shape, tile, affine, k);
    if (affine.floor == nullptr) {
      AffineTile(tile, k, x + tile.offset, y + tile.offset);
    } else {
      FlooredAffineTile(tile, k, x + tile.offset, y + tile.offset);
    }
    ClearPadding(tile, y + tile.offset);
  });
}

void SumGradients(const ChannelBlocking& shape,
                  const ChannelAffine& affine,
                  const float* x,
                  const float* d_y,
                  const ChannelGradientSums& sums) {
  ForEachTile(shape, [&](const ChannelTile& tile) {
    Columns k;
    double sum_g[kTileWidth];
    double sum_gx[kTileWidth];
    double sum_floored[kTileWidth];
    const float* x_tile = x + tile.offset;
    const float* g_tile = d_y + tile.offset;
    const int64_t row = tile.example * shape.channels;
    Spread(shape, tile, affine, k);
    if (affine.floor == nullptr) {
      SumTile(tile, k, x_tile, g_tile, sum_g, sum_gx);
    } else {
      FlooredSumTile(tile, k, x_tile, g_tile, sum_g, sum_gx, sum_floored);
      FoldColumns(tile, sum_floored, sums.floored + row);
    }
    FoldColumns(tile, sum_g, sums.d_y + row);
    FoldColumns(tile, sum_gx, sums.d_y_x + row);
  });
}

void SumOverExamples(const ChannelBlocking& shape, const double* table, float* per_channel) {
  for (int64_t c = 0; c < shape.channels; ++c) {
    double sum = 0;
    for (int64_t n = 0; n < shape.batch; ++n) {
      sum += table[n * shape.channels + c];
    }
    per_channel[c] = static_cast<float>(sum);
  }
}

void ApplyGradient(const ChannelBlocking& shape,
                   const ChannelAffine& affine,
                   const ChannelGradient& gradient,
                   const float* x,
                   const float* d_y,
                   float* d_x) {
  ForEachTile(shape, [&](const ChannelTile& tile) {
    Columns k;
    GradientColumns d;
    Spread(shape, tile, affine, k);
    const int64_t row = tile.example / affine.examples_per_row * shape.channels;
    SpreadOverColumns(tile, gradient.p + row, d.p);
    SpreadOverColumns(tile, gradient.q + row, d.q);
    SpreadOverColumns(tile, gradient.r + row, d.r);
    const float* x_tile = x + tile.offset;
    const float* g_tile = d_y + tile.offset;
    float* d_tile = d_x + tile.offset;
    if (gradient.term == GradientTerm::kSign) {
      SignGradientTile(tile, d, x_tile, g_tile, d_tile);
    } else if (affine.floor != nullptr) {
      FlooredGradientTile(tile, k, d, x_tile, g_tile, d_tile);
    } else {
      GradientTile(tile, k, d, x_tile, g_tile, d_tile);
    }
    ClearPadding(tile, d_tile);
  });
}

}  // namespace normlab::engine
