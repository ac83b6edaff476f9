#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/dnnl/layout.h"
#include "engine/layers/normalization/channel_normalizer.h"

namespace normlab::engine {

// y = gamma tanh(alpha x) + beta with one alpha for the layer (Zhu et al. 2025): no statistics at
// all. alpha and d_alpha point to one number each; d_alpha may be null. Results do not depend on the
// number of threads. Forward and Backward allocate nothing; Backward uses scratch memory of
// scratch_bytes(), 64-byte aligned.
//
// Thread-compatible. Owns nothing.
class DynamicTanh {
 public:
  // gamma, beta and their gradients in `tensors` are [channels] or null; the rest is not used.
  DynamicTanh(const ChannelBlocking& shape,
              const NormalizerTensors& tensors,
              const float* alpha,
              float* d_alpha);

  int64_t scratch_bytes() const;

  // y may be x when there is no Backward.
  void Forward(const float* x, float* y) const;
  // Overwrites d_x and the gradients of the parameters. d_x may be d_y.
  void Backward(const float* x, const float* d_y, float* d_x, std::byte* scratch) const;

 private:
  const ChannelBlocking view_;
  const NormalizerTensors tensors_;
  const float* const alpha_;
  float* const d_alpha_;
};

}  // namespace normlab::engine
