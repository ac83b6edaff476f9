#pragma once

#include "engine/layers/reference.h"

// Layers that move or sum values, in double precision, as plain loops over the definitions; used by
// tests only. All tensors are row-major.
namespace normlab::engine::reference {

// [N,C,H,W] -> [N,C], the mean over H and W.
Tensor GlobalAveragePoolForward(const ImageShape& shape, const Tensor& x);
Tensor GlobalAveragePoolBackward(const ImageShape& shape, const Tensor& d_y);

struct PadShape {
  ImageShape in;
  int64_t height, width;
  ImageShape out() const { return {in.batch, in.channels, height, width}; }
  int64_t top() const { return (height - in.height) / 2; }
  int64_t left() const { return (width - in.width) / 2; }
};
Tensor PadForward(const PadShape& shape, const Tensor& x);
Tensor PadBackward(const PadShape& shape, const Tensor& d_y);

struct SubsampleShape {
  ImageShape in;
  int64_t stride, out_channels;
  ImageShape out() const {
    return {in.batch, out_channels, (in.height + stride - 1) / stride,
            (in.width + stride - 1) / stride};
  }
};
Tensor SubsampleForward(const SubsampleShape& shape, const Tensor& x);
Tensor SubsampleBackward(const SubsampleShape& shape, const Tensor& d_y);

}  // namespace normlab::engine::reference
