#pragma once

#include <cstdint>

#include "engine/dnnl/layout.h"

namespace normlab::engine {

// Convolutions of images of 2x2 pixels by 3x3 kernels with padding 1, in nine products of matrices.
//
// Along one axis, y0 = w1 x0 + w2 x1 and y1 = w0 x0 + w1 x1: a Toeplitz matrix times a vector, for
// which three multiplications do instead of four (Winograd, "Arithmetic complexity of computations",
// 1980, as Karatsuba's):
//   m = U X with X = (x0 + x1, x1, x0) and U = (w1, w2 - w1, w0 - w1);  y0 = m0 + m1, y1 = m0 + m2.
// Nested over both axes: nine, each a product over channels of [N,I] and [I,O]. As the factors are
// sums of at most four numbers, rounding errors are near those of the direct sum, unlike those of
// Winograd's F(4x4,3x3).
//
// Below, planes are the nine values of every example and channel, [9,N,C] row-major, plane 3r + s for
// index r along the rows and s along the columns. All loops give the same results with any number of
// threads, but never allocate or lock. `image`: of 2x2 pixels, its channels in whole blocks; F32.
inline constexpr int64_t kProductPlanes = 9;

// Which side of the convolution an image is on. The transposed maps, which gradients need, are those
// of the image turned by 180 degrees.
enum class ImageSide { kInput, kOutput };

// planes = X(image) for an input; for the gradient of an output: that of the products m.
void SplitImages(const ChannelBlocking& shape, ImageSide side, const float* image, float* planes);

// image = y(planes = m) + bias (per channel; null: none) for an output; for an input: its gradient
// given that of X.
void JoinImages(const ChannelBlocking& shape,
                ImageSide side,
                const float* planes,
                const float* bias,
                float* image);

// planes [9,O,I] = U(w [O,I,3,3]).
void SplitKernels(int64_t outputs, int64_t inputs, const float* w, float* planes);

// The gradient of w [O,I,3,3], given that of U, [9,O,I].
void JoinKernelGradients(int64_t outputs, int64_t inputs, const float* planes, float* d_w);

// d_b [channels]: sums over examples of the first plane of the gradient of an output, which holds
// the sums over pixels.
void SumBiasGradient(int64_t batch, int64_t channels, const float* planes, float* d_b);

}  // namespace normlab::engine
