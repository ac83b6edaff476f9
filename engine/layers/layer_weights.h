#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "engine/graph/graph.h"
#include "engine/layers/layer.h"
#include "engine/layers/normalization/weight_normalization.h"
#include "engine/layers/plan.h"

namespace normlab::engine {

// The weights of a linear layer or convolution: as they are in the model, or what weight norm or
// weight standardization makes of them. Hands them to ops in the layouts these want, takes their
// gradient back, and knows weight norm's initialization from data.
//
// Thread-compatible. Owned by its layer; buffers and ops are the planner's.
class LayerWeights {
 public:
  // `dims`: of the weights in plain layout, [O, ...] or, in groups, [G, O/G, ...]; `outputs`: O.
  // `name`: of the layer, for records.
  LayerWeights(std::string name,
               const WeightOptions& options,
               const Dims& dims,
               int64_t outputs,
               const LayerParameters& parameters);

  // First of all: plans what the transform needs.
  void Plan(Planner& planner);
  // The weights in the layout `wanted`, refreshed by Refresh: the plain ones' own memory when they
  // lie so already.
  absl::StatusOr<View> For(Planner& planner, const Layout& wanted);
  // Where an op shall write the gradient of the weights, in the layout `wanted`; StoreGradient takes
  // it from there. While a backward pass is planned.
  absl::StatusOr<View> GradientFor(Planner& planner, const Layout& wanted);

  // After parameters changed.
  void Refresh();
  // After the op that GradientFor was planned for.
  void StoreGradient();

  // Whether the first batch sets the gain and the bias.
  bool depends_on_data() const {
    return options_.transform == WeightTransform::kWeightNorm && options_.data_dependent_init;
  }
  // Before the forward op on the first batch: gain 1, bias 0.
  void BeginInitialization();
  // After it, with its output: every output gets mean 0 and variance 1. Forward must run again.
  void Initialize(const View& y);

 private:
  Layout Plain() const { return Layout::RowMajor(dims_); }

  const std::string name_;
  const WeightOptions options_;
  const Dims dims_;
  const int64_t outputs_;
  const LayerParameters parameters_;
  const int64_t fan_in_;

  // At most one of them.
  std::unique_ptr<WeightNormalization> normalization_;
  std::unique_ptr<WeightStandardizer> standardizer_;
  View weight_;    // plain; the model's own memory without a transform
  View d_weight_;  // likewise
  OpList refresh_;
  OpList store_;
};

}  // namespace normlab::engine
