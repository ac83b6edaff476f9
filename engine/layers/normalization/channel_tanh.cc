#include "engine/layers/normalization/channel_kernels.h"
#include "engine/layers/normalization/channel_tiles.h"
#include "engine/layers/vector_math.h"
#include "engine/tensor/vectorize.h"

namespace normlab::engine {
namespace {

NORMLAB_VECTORIZE void ForwardTile(const ChannelTile& tile,
                                   float alpha,
                                   const float* __restrict gamma,
                                   const float* __restrict beta,
                                   const float* x,
                                   float* y) {
  for (int64_t row = 0; row < tile.rows; ++row) {
    const float* x_row = x + row * tile.stride;
    float* y_row = y + row * tile.stride;
    const int64_t width = tile.width_of(row);
#pragma GCC ivdep
    for (int64_t c = 0; c < width; ++c) {
      y_row[c] = gamma[c] * VectorTanh(alpha * x_row[c]) + beta[c];
    }
  }
}

struct ColumnSums {
  double g[kTileWidth];
  double gt[kTileWidth];
  double slope[kTileWidth];
};

NORMLAB_VECTORIZE void BackwardTile(const ChannelTile& tile,
                                    float alpha,
                                    const float* __restrict gamma,
                                    const float* x,
                                    const float* g,
                                    float* d_x,
                                    ColumnSums& sums) {
  float partial_g[kTileWidth];
  float partial_gt[kTileWidth];
  float partial_slope[kTileWidth];
  std::fill_n(sums.g, tile.width, 0.0);
  std::fill_n(sums.gt, tile.width, 0.0);
  std::fill_n(sums.slope, tile.width, 0.0);
  for (int64_t begin = 0; begin < tile.rows; begin += kFloatRun) {
    const int64_t end = std::min(begin + kFloatRun, tile.rows);
    std::fill_n(partial_g, tile.width, 0.0F);
    std::fill_n(partial_gt, tile.width, 0.0F);
    std::fill_n(partial_slope, tile.width, 0.0F);
    for (int64_t row = begin; row < end; ++row) {
      const float* x_row = x + row * tile.stride;
      const float* g_row = g + row * tile.stride;
      float* d_row = d_x + row * tile.stride;
      const int64_t width = tile.width_of(row);
#pragma GCC ivdep
      for (int64_t c = 0; c < width; ++c) {
        const float d_y = g_row[c];
        const float t = VectorTanh(alpha * x_row[c]);
        const float slope = d_y * (1.0F - t * t);
        partial_g[c] += d_y;
        partial_gt[c] += d_y * t;
        partial_slope[c] += slope * x_row[c];
        d_row[c] = gamma[c] * alpha * slope;
      }
    }
    for (int64_t c = 0; c < tile.width; ++c) {
      sums.g[c] += static_cast<double>(partial_g[c]);
      sums.gt[c] += static_cast<double>(partial_gt[c]);
      sums.slope[c] += static_cast<double>(partial_slope[c]);
    }
  }
}

// null: `otherwise` everywhere but at padding.
void SpreadOr(const ChannelTile& tile, const float* per_channel, float otherwise, float* columns) {
  if (per_channel != nullptr) {
    return SpreadOverColumns(tile, per_channel, columns);
  }
  std::fill_n(columns, tile.channels, otherwise);
  std::fill(columns + tile.channels, columns + tile.period, 0.0F);
  RepeatPeriod(tile, columns);
}

}  // namespace

void TanhForward(const ChannelBlocking& shape,
                 float alpha,
                 const float* gamma,
                 const float* beta,
                 const float* x,
                 float* y) {
  ForEachTile(shape, [&](const ChannelTile& tile) {
    float column_gamma[kTileWidth];
    float column_beta[kTileWidth];
    SpreadOr(tile, gamma, 1.0F, column_gamma);
    SpreadOr(tile, beta, 0.0F, column_beta);
    ForwardTile(tile, alpha, column_gamma, column_beta, x + tile.offset, y + tile.offset);
    ClearPadding(tile, y + tile.offset);
  });
}

void TanhBackward(const ChannelBlocking& shape,
                  float alpha,
                  const float* gamma,
                  const float* x,
                  const float* d_y,
                  float* d_x,
                  const TanhSums& sums) {
  ForEachTile(shape, [&](const ChannelTile& tile) {
    float column_gamma[kTileWidth];
    ColumnSums columns;
    SpreadOr(tile, gamma, 1.0F, column_gamma);
    BackwardTile(tile, alpha, column_gamma, x + tile.offset, d_y + tile.offset, d_x + tile.offset,
                 columns);
    const int64_t row = tile.example * shape.channels;
    FoldColumns(tile, columns.g, sums.d_y + row);
    FoldColumns(tile, columns.gt, sums.d_y_t + row);
    FoldColumns(tile, columns.slope, sums.d_y_slope + row);
    ClearPadding(tile, d_x + tile.offset);
  });
}

}  // namespace normlab::engine
