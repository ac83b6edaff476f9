#include "engine/layers/normalization/channel_noise.h"

#include "absl/strings/str_cat.h"

#include "engine/layers/normalization/box_muller.h"
#include "engine/layers/normalization/channel_tiles.h"
#include "engine/tensor/vectorize.h"

namespace normlab::engine {
namespace {

struct Bits {
  uint32_t word[4][kTileWidth];
};

// Scales and shifts of one row of a tile, for the two examples that share its bits.
struct RowNoise {
  float scale[2][kTileWidth];
  float shift[2][kTileWidth];
};

NORMLAB_VECTORIZE void MakeNoise(int64_t width,
                                 const Bits& bits,
                                 const float* __restrict mu,
                                 const float* __restrict sigma,
                                 float mean_jitter,
                                 float deviation_jitter,
                                 RowNoise& noise) {
  for (int64_t c = 0; c < width; ++c) {
    float normal0 = 0;
    float normal1 = 0;
    BoxMuller(bits.word[0][c], bits.word[1][c], normal0, normal1);
    noise.scale[0][c] = sigma[c] + deviation_jitter * normal0;
    noise.scale[1][c] = sigma[c] + deviation_jitter * normal1;
    noise.shift[0][c] = mu[c] + mean_jitter * (2.0F * Uniform24(bits.word[2][c]) - 1.0F);
    noise.shift[1][c] = mu[c] + mean_jitter * (2.0F * Uniform24(bits.word[3][c]) - 1.0F);
  }
}

// "ivdep": x and y are the same array or do not overlap.
NORMLAB_VECTORIZE void ScaleAndShift(int64_t width,
                                     const float* __restrict scale,
                                     const float* __restrict shift,
                                     const float* x,
                                     float* y) {
#pragma GCC ivdep
  for (int64_t c = 0; c < width; ++c) {
    y[c] = scale[c] * x[c] + shift[c];
  }
}

NORMLAB_VECTORIZE void Scale(int64_t width,
                             const float* __restrict scale,
                             const float* x,
                             float* y) {
#pragma GCC ivdep
  for (int64_t c = 0; c < width; ++c) {
    y[c] = scale[c] * x[c];
  }
}

}  // namespace

ChannelNoise::ChannelNoise(uint32_t seed,
                           absl::string_view layer,
                           const ChannelBlocking& shape,
                           const ChannelNoiseOptions& options)
    : shape_(shape),
      options_(options),
      values_(seed, absl::StrCat("noise/", layer)),
      channels_(seed, absl::StrCat("noise/", layer, "/channels")),
      mu_(static_cast<size_t>(shape.channels)),
      sigma_(mu_.size()) {}

void ChannelNoise::BeginStep(uint64_t step) {
  step_ = step;
  for (size_t c = 0; c < mu_.size(); ++c) {
    mu_[c] = static_cast<float>(options_.mean_range * (2 * channels_.Uniform(step, 2 * c) - 1));
    sigma_[c] =
        static_cast<float>(1 + (options_.deviation_range - 1) * channels_.Uniform(step, 2 * c + 1));
  }
}

void ChannelNoise::Forward(const float* x, float* y) const {
  Apply(/*with_shift=*/true, x, y);
}

void ChannelNoise::Backward(const float* d_y, float* d_x) const {
  Apply(/*with_shift=*/false, d_y, d_x);
}

void ChannelNoise::Apply(bool with_shift, const float* x, float* y) const {
  // An "example" of this shape is a pair of examples.
  ChannelBlocking pairs = shape_;
  pairs.batch = (shape_.batch + 1) / 2;
  const int64_t example_floats = FloatsOf(shape_) / shape_.batch;
  ForEachTile(pairs, [&](const ChannelTile& tile) {
    float mu[kTileWidth];
    float sigma[kTileWidth];
    uint64_t indices[kTileWidth];
    Bits bits;
    RowNoise noise;
    SpreadOverColumns(tile, mu_.data(), mu);
    SpreadOverColumns(tile, sigma_.data(), sigma);
    const int64_t first_index = (tile.example * shape_.channels + tile.first_channel) * shape_.area;
    for (int64_t first = 0; first < tile.width; first += tile.period) {
      for (int64_t c = 0; c < tile.period; ++c) {
        indices[first + c] =
            static_cast<uint64_t>(first_index + c * shape_.area + first / tile.period);
      }
    }
    const int64_t pixels_per_row = tile.width / tile.period;
    const int64_t first_example = 2 * tile.example;
    const int64_t examples = std::min<int64_t>(2, shape_.batch - first_example);
    // The tile's offset counts pairs where memory has examples.
    const int64_t offset = tile.offset + tile.example * example_floats;
    for (int64_t row = 0; row < tile.rows; ++row) {
      const int64_t width = tile.width_of(row);
      values_.FillBits(step_, {indices, static_cast<size_t>(width)},
                       {bits.word[0], bits.word[1], bits.word[2], bits.word[3]});
      MakeNoise(width, bits, mu, sigma, static_cast<float>(options_.mean_jitter),
                static_cast<float>(options_.deviation_jitter), noise);
      for (int64_t e = 0; e < examples; ++e) {
        const int64_t at = offset + e * example_floats + row * tile.stride;
        if (with_shift) {
          ScaleAndShift(width, noise.scale[e], noise.shift[e], x + at, y + at);
        } else {
          Scale(width, noise.scale[e], x + at, y + at);
        }
      }
      for (int64_t c = 0; c < tile.width; ++c) {
        indices[c] += static_cast<uint64_t>(pixels_per_row);
      }
    }
    for (int64_t e = 0; e < examples; ++e) {
      ClearPadding(tile, y + offset + e * example_floats);
    }
  });
}

}  // namespace normlab::engine
