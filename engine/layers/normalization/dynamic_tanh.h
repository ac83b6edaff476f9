#pragma once

#include <cstdint>
#include <vector>

#include "engine/layers/normalization/channel_blocking.h"
#include "engine/layers/normalization/channel_normalizer.h"

namespace normlab::engine {

// y = gamma tanh(alpha x) + beta with one alpha for the layer (Zhu et al. 2025): no statistics at
// all. alpha and d_alpha point to one number each; d_alpha may be null. Results do not depend on the
// number of threads. Forward and Backward allocate nothing.
//
// Thread-compatible. Owns its tables; not the tensors.
class DynamicTanh {
 public:
  // gamma, beta and their gradients in `tensors` are [channels] or null; the rest is not used.
  DynamicTanh(const ChannelBlocking& shape,
              const NormalizerTensors& tensors,
              const float* alpha,
              float* d_alpha);

  // y may be x when there is no Backward.
  void Forward(const float* x, float* y);
  // Overwrites d_x and the gradients of the parameters. d_x may be d_y.
  void Backward(const float* x, const float* d_y, float* d_x);

 private:
  const ChannelBlocking view_;
  const NormalizerTensors tensors_;
  const float* const alpha_;
  float* const d_alpha_;
  std::vector<double> sum_g_, sum_gt_, sum_slope_;  // per example of the view and channel
};

}  // namespace normlab::engine
