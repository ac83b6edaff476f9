#include <algorithm>
#include <bit>
#include <limits>

#include "engine/layers/normalization/channel_kernels.h"
#include "engine/layers/normalization/channel_tiles.h"
#include "engine/tensor/vectorize.h"

namespace normlab::engine {
namespace {

// sum = sum of (x - shift) over the first `rows` rows, per column.
NORMLAB_VECTORIZE void ColumnSums(const ChannelTile& tile,
                                  int64_t rows,
                                  const float* __restrict x,
                                  const float* __restrict shift,
                                  double* __restrict sum) {
  float partial[kTileWidth];
  std::fill_n(sum, tile.width, 0.0);
  for (int64_t begin = 0; begin < rows; begin += kFloatRun) {
    const int64_t end = std::min(begin + kFloatRun, rows);
    std::fill_n(partial, tile.width, 0.0F);
    for (int64_t row = begin; row < end; ++row) {
      const float* __restrict x_row = x + row * tile.stride;
      const int64_t width = tile.width_of(row);
      for (int64_t c = 0; c < width; ++c) {
        partial[c] += x_row[c] - shift[c];
      }
    }
    for (int64_t c = 0; c < tile.width; ++c) {
      sum[c] += static_cast<double>(partial[c]);
    }
  }
}

// The same over all rows, and the sum of (x - shift)^2.
NORMLAB_VECTORIZE void DeviationSums(const ChannelTile& tile,
                                     const float* __restrict x,
                                     const float* __restrict shift,
                                     double* __restrict sum,
                                     double* __restrict squares) {
  float partial[kTileWidth];
  float partial_squares[kTileWidth];
  std::fill_n(sum, tile.width, 0.0);
  std::fill_n(squares, tile.width, 0.0);
  for (int64_t begin = 0; begin < tile.rows; begin += kFloatRun) {
    const int64_t end = std::min(begin + kFloatRun, tile.rows);
    std::fill_n(partial, tile.width, 0.0F);
    std::fill_n(partial_squares, tile.width, 0.0F);
    for (int64_t row = begin; row < end; ++row) {
      const float* __restrict x_row = x + row * tile.stride;
      const int64_t width = tile.width_of(row);
      for (int64_t c = 0; c < width; ++c) {
        const float deviation = x_row[c] - shift[c];
        partial[c] += deviation;
        partial_squares[c] += deviation * deviation;
      }
    }
    for (int64_t c = 0; c < tile.width; ++c) {
      sum[c] += static_cast<double>(partial[c]);
      squares[c] += static_cast<double>(partial_squares[c]);
    }
  }
}

// sum = sum of (x - shift), and the sum of |x|, which is not shifted.
NORMLAB_VECTORIZE void AbsoluteSums(const ChannelTile& tile,
                                    const float* __restrict x,
                                    const float* __restrict shift,
                                    double* __restrict sum,
                                    double* __restrict absolutes) {
  float partial[kTileWidth];
  float partial_absolutes[kTileWidth];
  std::fill_n(sum, tile.width, 0.0);
  std::fill_n(absolutes, tile.width, 0.0);
  for (int64_t begin = 0; begin < tile.rows; begin += kFloatRun) {
    const int64_t end = std::min(begin + kFloatRun, tile.rows);
    std::fill_n(partial, tile.width, 0.0F);
    std::fill_n(partial_absolutes, tile.width, 0.0F);
    for (int64_t row = begin; row < end; ++row) {
      const float* __restrict x_row = x + row * tile.stride;
      const int64_t width = tile.width_of(row);
      for (int64_t c = 0; c < width; ++c) {
        partial[c] += x_row[c] - shift[c];
        partial_absolutes[c] += __builtin_fabsf(x_row[c]);
      }
    }
    for (int64_t c = 0; c < tile.width; ++c) {
      sum[c] += static_cast<double>(partial[c]);
      absolutes[c] += static_cast<double>(partial_absolutes[c]);
    }
  }
}

// The same with the sum of x^2.
NORMLAB_VECTORIZE void SquareSums(const ChannelTile& tile,
                                  const float* __restrict x,
                                  const float* __restrict shift,
                                  double* __restrict sum,
                                  double* __restrict squares) {
  float partial[kTileWidth];
  float partial_squares[kTileWidth];
  std::fill_n(sum, tile.width, 0.0);
  std::fill_n(squares, tile.width, 0.0);
  for (int64_t begin = 0; begin < tile.rows; begin += kFloatRun) {
    const int64_t end = std::min(begin + kFloatRun, tile.rows);
    std::fill_n(partial, tile.width, 0.0F);
    std::fill_n(partial_squares, tile.width, 0.0F);
    for (int64_t row = begin; row < end; ++row) {
      const float* __restrict x_row = x + row * tile.stride;
      const int64_t width = tile.width_of(row);
      for (int64_t c = 0; c < width; ++c) {
        partial[c] += x_row[c] - shift[c];
        partial_squares[c] += x_row[c] * x_row[c];
      }
    }
    for (int64_t c = 0; c < tile.width; ++c) {
      sum[c] += static_cast<double>(partial[c]);
      squares[c] += static_cast<double>(partial_squares[c]);
    }
  }
}

// Largest |x| per column, as the bits of a float: magnitudes order like their bits, NaN above all.
NORMLAB_VECTORIZE void ColumnMaxima(const ChannelTile& tile,
                                    const float* __restrict x,
                                    uint32_t* __restrict largest) {
  constexpr uint32_t kMagnitude = 0x7FFFFFFF;
  std::fill_n(largest, tile.width, 0U);
  for (int64_t row = 0; row < tile.rows; ++row) {
    const float* __restrict x_row = x + row * tile.stride;
    const int64_t width = tile.width_of(row);
    for (int64_t c = 0; c < width; ++c) {
      const uint32_t magnitude = std::bit_cast<uint32_t>(x_row[c]) & kMagnitude;
      largest[c] = magnitude > largest[c] ? magnitude : largest[c];
    }
  }
}

// Values of every channel in the first `rows` rows of a tile.
double CountPerChannel(const ChannelTile& tile, int64_t rows) {
  const int64_t floats = (rows - 1) * tile.width + tile.width_of(rows - 1);
  return static_cast<double>(floats / tile.period);
}

// The first value of every channel.
void FirstValues(const ChannelTile& tile, const float* x, float* shift) {
  std::copy_n(x, tile.channels, shift);
  std::fill(shift + tile.channels, shift + tile.period, 0.0F);
  RepeatPeriod(tile, shift);
}

// A number near the mean of every column's channel: the mean of the first eighth of the rows (of all
// when they are few), taken about the channel's first value, so that a constant channel gets exactly
// its value.
void ChooseShift(const ChannelTile& tile, const float* x, float* shift) {
  constexpr int64_t kFewRows = 8;
  const int64_t rows = tile.rows < kFewRows ? tile.rows : (tile.rows + 7) / 8;
  FirstValues(tile, x, shift);
  double sum[kTileWidth];
  ColumnSums(tile, rows, x, shift, sum);
  SumPeriods(tile, sum);
  const double count = CountPerChannel(tile, rows);
  for (int64_t c = 0; c < tile.channels; ++c) {
    shift[c] = static_cast<float>(static_cast<double>(shift[c]) + sum[c] / count);
  }
  RepeatPeriod(tile, shift);
}

void CentredMoments(const ChannelTile& tile, const float* x, double* mean, double* second) {
  float shift[kTileWidth] = {};
  double sum[kTileWidth];
  double squares[kTileWidth];
  ChooseShift(tile, x, shift);
  DeviationSums(tile, x, shift, sum, squares);
  FoldColumns(tile, sum, mean);
  FoldColumns(tile, squares, second);
  const double count = CountPerChannel(tile, tile.rows);
  for (int64_t c = 0; c < tile.channels; ++c) {
    double& channel_mean = mean[tile.first_channel + c];
    double& channel_second = second[tile.first_channel + c];
    const double deviation = channel_mean;
    const double centred = channel_second - deviation * deviation / count;
    channel_second = centred < 0 ? 0 : centred;  // in this form NaN stays NaN
    channel_mean = static_cast<double>(shift[c]) + deviation / count;
  }
}

// Means from sums about the channels' first values: even far from 0 their errors are small against
// the deviations.
void MeansFromSums(const ChannelTile& tile, const float* shift, double* sum, double* mean) {
  FoldColumns(tile, sum, mean);
  const double count = CountPerChannel(tile, tile.rows);
  for (int64_t c = 0; c < tile.channels; ++c) {
    double& channel_mean = mean[tile.first_channel + c];
    channel_mean = static_cast<double>(shift[c]) + channel_mean / count;
  }
}

void MaximumMoments(const ChannelTile& tile, const float* x, double* mean, double* second) {
  float shift[kTileWidth] = {};
  double sum[kTileWidth];
  uint32_t largest[kTileWidth];
  FirstValues(tile, x, shift);
  ColumnSums(tile, tile.rows, x, shift, sum);
  MeansFromSums(tile, shift, sum, mean);
  ColumnMaxima(tile, x, largest);
  for (int64_t c = 0; c < tile.channels; ++c) {
    uint32_t bits = 0;
    for (int64_t l = c; l < tile.width; l += tile.period) {
      bits = std::max(bits, largest[l]);
    }
    second[tile.first_channel + c] = static_cast<double>(std::bit_cast<float>(bits));
  }
}

void UncentredMoments(const ChannelTile& tile,
                      ChannelStatistic statistic,
                      const float* x,
                      double* mean,
                      double* second) {
  float shift[kTileWidth] = {};
  double sum[kTileWidth];
  double sum_second[kTileWidth];
  FirstValues(tile, x, shift);
  if (statistic == ChannelStatistic::kSquares) {
    SquareSums(tile, x, shift, sum, sum_second);
  } else {
    AbsoluteSums(tile, x, shift, sum, sum_second);
  }
  MeansFromSums(tile, shift, sum, mean);
  FoldColumns(tile, sum_second, second);
}

}  // namespace

void ComputeMoments(const ChannelBlocking& shape,
                    ChannelStatistic statistic,
                    const float* x,
                    double* mean,
                    double* second) {
  ForEachTile(shape, [&](const ChannelTile& tile) {
    const float* x_tile = x + tile.offset;
    double* tile_mean = mean + tile.example * shape.channels;
    double* tile_second = second + tile.example * shape.channels;
    switch (statistic) {
      case ChannelStatistic::kCentredSquares:
        return CentredMoments(tile, x_tile, tile_mean, tile_second);
      case ChannelStatistic::kSquares:
      case ChannelStatistic::kAbsolutes:
        return UncentredMoments(tile, statistic, x_tile, tile_mean, tile_second);
      case ChannelStatistic::kMaximum:
        return MaximumMoments(tile, x_tile, tile_mean, tile_second);
    }
  });
}

int64_t FindMagnitude(
    const ChannelBlocking& shape, int64_t n, int64_t c, float value, const float* x) {
  const int64_t first =
      (n * shape.blocks() + c / shape.block) * shape.area * shape.block + c % shape.block;
  for (int64_t a = 0; a < shape.area; ++a) {
    const int64_t at = first + a * shape.block;
    if (__builtin_fabsf(x[at]) == value) {
      return at;
    }
  }
  return -1;
}

}  // namespace normlab::engine
