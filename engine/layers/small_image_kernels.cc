#include "engine/layers/small_image_kernels.h"

#include <algorithm>

#include "engine/layers/elementwise.h"
#include "engine/tensor/vectorize.h"

namespace normlab::engine {
namespace {

constexpr int64_t kPixels = 4;
constexpr int64_t kTaps = 9;
// Inputs of one output whose kernels are transposed together, in the first-level cache.
constexpr int64_t kTile = 64;
// Channels whose sums are taken together.
constexpr int64_t kSumTile = 128;

// The order in which the four pixels of a block of channels are taken.
struct Pixels {
  int64_t first;  // offset of the first
  int64_t step;   // to the next
};

Pixels InOrder(int64_t block) {
  return {0, block};
}

// By 180 degrees.
Pixels Turned(int64_t block) {
  return {3 * block, -block};
}

NORMLAB_VECTORIZE void SplitBlock(int64_t width,
                                  Pixels pixels,
                                  const float* __restrict image,
                                  int64_t plane,
                                  float* __restrict planes) {
  const float* __restrict x00 = image + pixels.first;
  const float* __restrict x01 = x00 + pixels.step;
  const float* __restrict x10 = x01 + pixels.step;
  const float* __restrict x11 = x10 + pixels.step;
#pragma GCC ivdep
  for (int64_t c = 0; c < width; ++c) {
    const float a = x00[c];
    const float b = x01[c];
    const float d = x10[c];
    const float e = x11[c];
    planes[c] = (a + d) + (b + e);
    planes[plane + c] = b + e;
    planes[2 * plane + c] = a + d;
    planes[3 * plane + c] = d + e;
    planes[4 * plane + c] = e;
    planes[5 * plane + c] = d;
    planes[6 * plane + c] = a + b;
    planes[7 * plane + c] = b;
    planes[8 * plane + c] = a;
  }
}

NORMLAB_VECTORIZE void JoinBlock(int64_t width,
                                 Pixels pixels,
                                 int64_t plane,
                                 const float* __restrict planes,
                                 const float* __restrict bias,
                                 float* __restrict image) {
  float* __restrict y00 = image + pixels.first;
  float* __restrict y01 = y00 + pixels.step;
  float* __restrict y10 = y01 + pixels.step;
  float* __restrict y11 = y10 + pixels.step;
#pragma GCC ivdep
  for (int64_t c = 0; c < width; ++c) {
    const float b = bias == nullptr ? 0.0F : bias[c];
    const float m0 = planes[c];
    const float m1 = planes[plane + c];
    const float m2 = planes[2 * plane + c];
    const float m3 = planes[3 * plane + c];
    const float m6 = planes[6 * plane + c];
    y00[c] = ((m0 + m1) + (m3 + planes[4 * plane + c])) + b;
    y01[c] = ((m0 + m2) + (m3 + planes[5 * plane + c])) + b;
    y10[c] = ((m0 + m1) + (m6 + planes[7 * plane + c])) + b;
    y11[c] = ((m0 + m2) + (m6 + planes[8 * plane + c])) + b;
  }
}

// Of `width` inputs; `plane` lies between the planes.
NORMLAB_VECTORIZE void SplitKernelTile(int64_t width,
                                       const float* __restrict w,
                                       int64_t plane,
                                       float* __restrict planes) {
  float tap[kTaps][kTile];
  for (int64_t k = 0; k < kTaps; ++k) {
    for (int64_t i = 0; i < width; ++i) {
      tap[k][i] = w[i * kTaps + k];
    }
  }
  float along[kTaps][kTile];  // after the columns
  for (int64_t row = 0; row < 3; ++row) {
    const float(*t)[kTile] = tap + 3 * row;
    float(*u)[kTile] = along + 3 * row;
    for (int64_t i = 0; i < width; ++i) {
      u[0][i] = t[1][i];
      u[1][i] = t[2][i] - t[1][i];
      u[2][i] = t[0][i] - t[1][i];
    }
  }
  for (int64_t s = 0; s < 3; ++s) {
    float* __restrict p0 = planes + s * plane;
    float* __restrict p1 = planes + (3 + s) * plane;
    float* __restrict p2 = planes + (6 + s) * plane;
    for (int64_t i = 0; i < width; ++i) {
      p0[i] = along[3 + s][i];
      p1[i] = along[6 + s][i] - along[3 + s][i];
      p2[i] = along[s][i] - along[3 + s][i];
    }
  }
}

NORMLAB_VECTORIZE void JoinKernelTile(int64_t width,
                                      int64_t plane,
                                      const float* __restrict planes,
                                      float* __restrict d_w) {
  float along[kTaps][kTile];  // after the rows
  for (int64_t s = 0; s < 3; ++s) {
    const float* __restrict p0 = planes + s * plane;
    const float* __restrict p1 = planes + (3 + s) * plane;
    const float* __restrict p2 = planes + (6 + s) * plane;
    for (int64_t i = 0; i < width; ++i) {
      along[s][i] = p2[i];
      along[3 + s][i] = p0[i] - p1[i] - p2[i];
      along[6 + s][i] = p1[i];
    }
  }
  float tap[kTaps][kTile];
  for (int64_t row = 0; row < 3; ++row) {
    const float(*u)[kTile] = along + 3 * row;
    float(*t)[kTile] = tap + 3 * row;
    for (int64_t i = 0; i < width; ++i) {
      t[0][i] = u[2][i];
      t[1][i] = u[0][i] - u[1][i] - u[2][i];
      t[2][i] = u[1][i];
    }
  }
  for (int64_t i = 0; i < width; ++i) {
    for (int64_t k = 0; k < kTaps; ++k) {
      d_w[i * kTaps + k] = tap[k][i];
    }
  }
}

NORMLAB_VECTORIZE void SumRows(
    int64_t rows, int64_t stride, int64_t width, const float* __restrict x, float* __restrict sum) {
  double total[kSumTile] = {};
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t c = 0; c < width; ++c) {
      total[c] += static_cast<double>(x[row * stride + c]);
    }
  }
  for (int64_t c = 0; c < width; ++c) {
    sum[c] = static_cast<float>(total[c]);
  }
}

// work(offset of a block in the image, offset of its channels in a plane, first channel)
template <typename Work>
void ForEachBlock(const ChannelBlocking& shape, const Work& work) {
  const int64_t blocks = shape.blocks();
  const int64_t count = shape.batch * blocks;
#pragma omp parallel for schedule(static) if (count * shape.block * kPixels > kSmallTensorElements)
  for (int64_t i = 0; i < count; ++i) {
    const int64_t channel = i % blocks * shape.block;
    work(i * kPixels * shape.block, i / blocks * shape.channels + channel, channel);
  }
}

}  // namespace

void SplitImages(const ChannelBlocking& shape, ImageSide side, const float* image, float* planes) {
  const int64_t plane = shape.batch * shape.channels;
  const Pixels pixels = side == ImageSide::kInput ? InOrder(shape.block) : Turned(shape.block);
  ForEachBlock(shape, [&](int64_t at, int64_t in_plane, int64_t /*channel*/) {
    SplitBlock(shape.block, pixels, image + at, plane, planes + in_plane);
  });
}

void JoinImages(const ChannelBlocking& shape,
                ImageSide side,
                const float* planes,
                const float* bias,
                float* image) {
  const int64_t plane = shape.batch * shape.channels;
  const Pixels pixels = side == ImageSide::kOutput ? InOrder(shape.block) : Turned(shape.block);
  ForEachBlock(shape, [&](int64_t at, int64_t in_plane, int64_t channel) {
    JoinBlock(shape.block, pixels, plane, planes + in_plane,
              bias == nullptr ? nullptr : bias + channel, image + at);
  });
}

void SplitKernels(int64_t outputs, int64_t inputs, const float* w, float* planes) {
  const int64_t plane = outputs * inputs;
#pragma omp parallel for schedule(static) if (plane * kTaps > kSmallTensorElements)
  for (int64_t o = 0; o < outputs; ++o) {
    for (int64_t i = 0; i < inputs; i += kTile) {
      const int64_t at = o * inputs + i;
      SplitKernelTile(std::min(kTile, inputs - i), w + at * kTaps, plane, planes + at);
    }
  }
}

void JoinKernelGradients(int64_t outputs, int64_t inputs, const float* planes, float* d_w) {
  const int64_t plane = outputs * inputs;
#pragma omp parallel for schedule(static) if (plane * kTaps > kSmallTensorElements)
  for (int64_t o = 0; o < outputs; ++o) {
    for (int64_t i = 0; i < inputs; i += kTile) {
      const int64_t at = o * inputs + i;
      JoinKernelTile(std::min(kTile, inputs - i), plane, planes + at, d_w + at * kTaps);
    }
  }
}

void SumBiasGradient(int64_t batch, int64_t channels, const float* planes, float* d_b) {
  for (int64_t c = 0; c < channels; c += kSumTile) {
    SumRows(batch, channels, std::min(kSumTile, channels - c), planes + c, d_b + c);
  }
}

}  // namespace normlab::engine
