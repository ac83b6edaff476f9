#include "engine/layers/normalization/dynamic_tanh.h"

namespace normlab::engine {
namespace {

// Dense features are seen as the columns of one tall image: sums per column, not per number.
ChannelBlocking ViewOf(const ChannelBlocking& shape) {
  if (shape.area != 1) {
    return shape;
  }
  return {1, shape.channels, shape.batch, shape.blocks() * shape.block};
}

}  // namespace

DynamicTanh::DynamicTanh(const ChannelBlocking& shape,
                         const NormalizerTensors& tensors,
                         const float* alpha,
                         float* d_alpha)
    : view_(ViewOf(shape)),
      tensors_(tensors),
      alpha_(alpha),
      d_alpha_(d_alpha),
      sum_g_(static_cast<size_t>(view_.batch * view_.channels)),
      sum_gt_(sum_g_.size()),
      sum_slope_(sum_g_.size()) {}

void DynamicTanh::Forward(const float* x, float* y) {
  TanhForward(view_, *alpha_, tensors_.gamma, tensors_.beta, x, y);
}

void DynamicTanh::Backward(const float* x, const float* d_y, float* d_x) {
  TanhBackward(view_, *alpha_, tensors_.gamma, x, d_y, d_x,
               {sum_g_.data(), sum_gt_.data(), sum_slope_.data()});
  double d_alpha = 0;
  for (int64_t c = 0; c < view_.channels; ++c) {
    double d_beta = 0;
    double d_gamma = 0;
    double slope = 0;
    for (int64_t n = 0; n < view_.batch; ++n) {
      const auto i = static_cast<size_t>(n * view_.channels + c);
      d_beta += sum_g_[i];
      d_gamma += sum_gt_[i];
      slope += sum_slope_[i];
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
