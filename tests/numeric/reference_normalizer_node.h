#pragma once

#include <cstdint>

#include "engine/graph/graph.h"
#include "engine/layers/reference.h"

namespace normlab::engine {

// Whether the node is a normalizer, of whatever kind.
bool IsNormalizer(const NodeKind& kind);

// What a normalizer works with, in double; tensors that it does not have are empty.
struct NormalizerValues {
  reference::Tensor gamma, beta, tau, alpha;
  reference::Statistics running;  // from before the pass; of l_p norms var is the running scale
};

struct NormalizerPass {
  int64_t batch = 0;
  bool training = true;
  // Of the noise.
  uint32_t seed = 0;
  uint64_t step = 0;
};

struct NormalizerOutput {
  reference::Tensor y;
  reference::Statistics running;  // afterwards
};

struct NormalizerNodeGradients {
  reference::Tensor d_x, d_gamma, d_beta, d_tau, d_alpha;
};

// Any normalizer of a graph in double precision, by the references of engine/layers.
NormalizerOutput ReferenceNormalizerForward(const Node& node,
                                            const NormalizerPass& pass,
                                            const NormalizerValues& values,
                                            const reference::Tensor& x);
// In training, given the same values as the forward pass.
NormalizerNodeGradients ReferenceNormalizerBackward(const Node& node,
                                                    const NormalizerPass& pass,
                                                    const NormalizerValues& values,
                                                    const reference::Tensor& x,
                                                    const reference::Tensor& d_y);

}  // namespace normlab::engine
