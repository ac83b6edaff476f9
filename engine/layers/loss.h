#pragma once

#include <cstdint>

#include "absl/types/span.h"

#include "engine/layers/layer.h"

namespace normlab::engine {

// The last layer of a network: compares its outputs with labels or targets. PlanForward returns an
// empty view, and PlanBackward ignores d_y: the gradient of the loss with respect to itself is 1.
class LossLayer : public Layer {
 public:
  using Layer::Layer;

  // [N] class numbers, or empty when it has targets; to be filled before Forward. 0 <= label < C,
  // unchecked.
  virtual absl::Span<int32_t> labels() = 0;
  // [N,T], plain, or empty when it has labels; to be filled before Forward.
  virtual absl::Span<float> targets() = 0;
  // The network's outputs [N,C], plain; after Forward, until Backward.
  virtual absl::Span<const float> outputs() const = 0;
  // Of the last Forward; of a rank's share of a batch, its part of the batch's loss, so that the
  // loss is the sum over the ranks. NaN when an output or anything before it was.
  virtual double loss() const = 0;
  // Examples whose largest output (the first of equals) is the label; none in a row with NaN, and
  // none at all without labels.
  virtual int64_t correct() const = 0;
};

}  // namespace normlab::engine
