#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "engine/dnnl/layout.h"
#include "engine/layers/elementwise.h"

// How the channel kernels walk through a tensor; included by them only.
//
// A tile is a piece of one example that one thread works on: a matrix of at most kTileWidth columns
// in which every column belongs to one channel, so that one inner loop along a row serves every
// layout. Of a narrow block (plain images, 8 or 16 channels) a row is as many pixels as fit, one
// after the other: column l holds channel l % block. Of a wide one (channels last, dense) it is some
// channels of one pixel.
namespace normlab::engine {

inline constexpr int64_t kTileWidth = 128;
// Of tiles with fewer floats than this.
inline constexpr int64_t kShortTile = 1024;
inline constexpr int64_t kShortTileWidth = 32;
// Rows whose terms are added up in float before the sum goes on in double: bounds rounding errors to
// a few units in the last place.
inline constexpr int64_t kFloatRun = 32;

struct ChannelTile {
  int64_t example = 0;
  int64_t first_channel = 0;
  int64_t channels = 0;  // that exist, from first_channel on
  int64_t period =
      0;  // column l holds channel first_channel + l % period; from `channels` on: padding
  int64_t offset = 0;      // of the first float in memory
  int64_t rows = 0;        // a last, shorter row included
  int64_t stride = 0;      // floats from row to row
  int64_t width = 0;       // columns
  int64_t last_width = 0;  // columns of the last row

  bool padded() const { return channels < period; }
  int64_t width_of(int64_t row) const { return row + 1 == rows ? last_width : width; }
};

// In memory, padding included.
inline int64_t FloatsOf(const ChannelBlocking& x) {
  return x.batch * x.blocks() * x.area * x.block;
}

inline int64_t TilesPerBlock(const ChannelBlocking& x) {
  return (x.block + kTileWidth - 1) / kTileWidth;
}

inline ChannelTile TileAt(const ChannelBlocking& x, int64_t index) {
  const int64_t per_block = TilesPerBlock(x);
  const int64_t part = index % per_block;
  const int64_t plane = index / per_block;
  const int64_t block = plane % x.blocks();
  ChannelTile tile;
  tile.example = plane / x.blocks();
  tile.offset = plane * x.area * x.block + part * kTileWidth;
  tile.first_channel = block * x.block + part * kTileWidth;
  if (per_block == 1) {
    const int64_t floats = x.area * x.block;
    // Accumulators are cleared and folded once a tile: as many as there are columns.
    const int64_t widest = floats < kShortTile ? kShortTileWidth : kTileWidth;
    tile.period = x.block;
    tile.width = std::min(std::max(widest / x.block, int64_t{1}) * x.block, floats);
    tile.stride = tile.width;
    tile.rows = (floats + tile.width - 1) / tile.width;
    tile.last_width = floats - (tile.rows - 1) * tile.width;
  } else {
    tile.width = std::min(kTileWidth, x.block - part * kTileWidth);
    tile.period = tile.width;
    tile.stride = x.block;
    tile.rows = x.area;
    tile.last_width = tile.width;
  }
  tile.channels = std::clamp<int64_t>(x.channels - tile.first_channel, 0, tile.period);
  return tile;
}

// Calls work(tile) for all tiles, in parallel when the tensor is large.
template <typename Work>
void ForEachTile(const ChannelBlocking& x, const Work& work) {
  const int64_t tiles = x.batch * x.blocks() * TilesPerBlock(x);
#pragma omp parallel for schedule(static) if (FloatsOf(x) > kSmallTensorElements)
  for (int64_t i = 0; i < tiles; ++i) {
    work(TileAt(x, i));
  }
}

// Repeats the first `period` columns along the row, by doubling.
inline void RepeatPeriod(const ChannelTile& tile, float* columns) {
  for (int64_t filled = tile.period; filled < tile.width; filled *= 2) {
    std::memcpy(columns + filled, columns,
                static_cast<size_t>(std::min(filled, tile.width - filled)) * sizeof(float));
  }
}

// Numbers per channel [channels], laid out along a row of the tile; 0 at padding.
inline void SpreadOverColumns(const ChannelTile& tile, const float* per_channel, float* columns) {
  std::copy_n(per_channel + tile.first_channel, tile.channels, columns);
  std::fill(columns + tile.channels, columns + tile.period, 0.0F);
  RepeatPeriod(tile, columns);
}

// Adds up what belongs to one channel, pairwise: the sums are in the first `period` columns then.
inline void SumPeriods(const ChannelTile& tile, double* columns) {
  int64_t periods = tile.width / tile.period;
  while (periods > 1) {
    const int64_t half = (periods + 1) / 2;
    const double* upper = columns + half * tile.period;
    const int64_t count = (periods - half) * tile.period;
#pragma GCC ivdep
    for (int64_t l = 0; l < count; ++l) {
      columns[l] += upper[l];
    }
    periods = half;
  }
}

// The same; writes [channels] of the tile, uses up `columns`.
inline void FoldColumns(const ChannelTile& tile, double* columns, double* per_channel) {
  SumPeriods(tile, columns);
  std::copy_n(columns, tile.channels, per_channel + tile.first_channel);
}

// Whatever an input has there: layouts with padding promise zeros.
inline void ClearPadding(const ChannelTile& tile, float* y) {
  if (!tile.padded()) {
    return;
  }
  for (int64_t row = 0; row < tile.rows; ++row) {
    for (int64_t first = 0; first < tile.width_of(row); first += tile.period) {
      float* pixel = y + row * tile.stride + first;
      std::fill(pixel + tile.channels, pixel + tile.period, 0.0F);
    }
  }
}

}  // namespace normlab::engine
