#include "engine/layers/normalization/dynamic_tanh.h"

#include "engine/layers/normalization/channel_kernels.h"
#include "engine/layers/normalization/scratch.h"

namespace normlab::engine {
namespace {

// Dense features are seen as the columns of one tall image: sums per column, not per number.
ChannelBlocking ViewOf(const ChannelBlocking& shape) {
  if (shape.area != 1) {
    return shape;
  }
  return {1, shape.channels, shape.batch, shape.blocks() * shape.block};
}

// Per example of the view and channel.
TanhSums CutSums(ScratchCutter& cutter, const ChannelBlocking& view) {
  const int64_t entries = view.batch * view.channels;
  double* d_y = cutter.Cut<double>(entries);
  double* d_y_t = cutter.Cut<double>(entries);
  return {d_y, d_y_t, cutter.Cut<double>(entries)};
}

}  // namespace

DynamicTanh::DynamicTanh(const ChannelBlocking& shape,
                         const NormalizerTensors& tensors,
                         const float* alpha,
                         float* d_alpha)
    : view_(ViewOf(shape)), tensors_(tensors), alpha_(alpha), d_alpha_(d_alpha) {}

int64_t DynamicTanh::scratch_bytes() const {
  ScratchCutter cutter(nullptr);
  CutSums(cutter, view_);
  return cutter.bytes();
}

void DynamicTanh::Forward(const float* x, float* y) const {
  TanhForward(view_, *alpha_, tensors_.gamma, tensors_.beta, x, y);
}

void DynamicTanh::Backward(const float* x, const float* d_y, float* d_x, std::byte* scratch) const {
  ScratchCutter cutter(scratch);
  const TanhSums sums = CutSums(cutter, view_);
  TanhBackward(view_, *alpha_, tensors_.gamma, x, d_y, d_x, sums);
  double d_alpha = 0;
  for (int64_t c = 0; c < view_.channels; ++c) {
    double d_beta = 0;
    double d_gamma = 0;
    double slope = 0;
    for (int64_t n = 0; n < view_.batch; ++n) {
      const int64_t i = n * view_.channels + c;
      d_beta += sums.d_y[i];
      d_gamma += sums.d_y_t[i];
      slope += sums.d_y_slope[i];
    }
    d_alpha += slope * (tensors_.gamma == nullptr ? 1.0 : static_cast<double>(tensors_.gamma[c]));
    if (tensors_.d_beta != nullptr) {
      tensors_.d_beta[c] = static_cast<float>(d_beta);
    }
    if (tensors_.d_gamma != nullptr) {
      tensors_.d_gamma[c] = static_cast<float>(d_gamma);
    }
  }
  if (d_alpha_ != nullptr) {
    *d_alpha_ = static_cast<float>(d_alpha);
  }
}

}  // namespace normlab::engine
