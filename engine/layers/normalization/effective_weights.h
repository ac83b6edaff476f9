#pragma once

#include <cstdint>
#include <memory>

#include "engine/graph/graph.h"
#include "engine/layers/layer.h"
#include "engine/layers/normalization/weight_normalization.h"

namespace normlab::engine {

// The weights that a linear layer or convolution computes with: its parameters themselves, or what
// weight norm or weight standardization makes of them. Layers write the gradient of these weights
// where the gradient of the parameters belongs (LayerParameters::d_weight); Backward then turns it,
// in place, into that of the parameters.
//
// Life: Plan -> Planner::Finish -> Refresh whenever parameters changed. Thread-compatible. Owns
// small tables; the weights' memory is the planner's.
class EffectiveWeights {
 public:
  // `plain`: row-major, of the weights [outputs, ...].
  EffectiveWeights(const WeightOptions& options,
                   const Layout& plain,
                   const LayerParameters& parameters);

  // The weights in plain layout, valid after Refresh. Call once, before other uses.
  View Plan(Planner& planner);

  // Whether the outputs of the first batch decide gain and bias.
  bool initializes() const { return initializes_; }
  // Gain 1 and bias 0: what the first batch is to be computed with (call before Refresh).
  void PrepareInitialization() const;
  // From y, [batch, outputs, ...] in any layout, sets gain and bias such that every output has mean
  // 0 and variance 1 (Salimans and Kingma 2016, section 3). Without a bias only the variance. Call
  // Refresh afterwards. Allocates; for the first batch only.
  void Initialize(const View& y) const;

  void Refresh();
  void Backward();

 private:
  const WeightTransform transform_;
  const bool initializes_;
  const Layout plain_;
  const LayerParameters parameters_;

  View weights_;
  std::unique_ptr<WeightNormalization> normalization_;
  std::unique_ptr<WeightStandardizer> standardizer_;
};

}  // namespace normlab::engine
