#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "engine/graph/graph.h"
#include "engine/layers/layer.h"
#include "engine/layers/plan.h"
#include "engine/tensor/arena.h"

namespace normlab::engine {

struct SingleLayerOptions {
  int64_t batch = 0;
  Mode mode = Mode::kTraining;
  bool backward = false;  // training only
  // Of the noise that some normalizers draw.
  uint32_t seed = 0;
  int64_t step = 0;
};

// One layer planned and run on its own, unfused and in plain layouts: what it is to try a layer on a
// tensor, without network, loss or training. Parameters start at their initial constants (what an
// initializer would draw, at 0).
//
// Not thread-safe. Owns parameters and buffers; everything it hands out dies with it.
class SingleLayer {
 public:
  // `node` reads one input, of examples of the shape `in`; `name` is what errors and streams of
  // random numbers call the layer. INVALID_ARGUMENT, naming the layer: it does not fit the shape or
  // cannot compute the batch; UNIMPLEMENTED: nothing computes this kind; RESOURCE_EXHAUSTED: out of
  // memory; INTERNAL: oneDNN refused.
  static absl::StatusOr<std::unique_ptr<SingleLayer>> Plan(const std::string& name,
                                                           NodeKind node,
                                                           const Dims& in,
                                                           const SingleLayerOptions& options);

  // Row-major, batch first; input (and output gradient) to be filled before Forward (Backward). The
  // gradients are empty without `backward`.
  absl::Span<float> input();
  absl::Span<const float> output() const;
  absl::Span<float> output_gradient();
  absl::Span<const float> input_gradient() const;

  const std::vector<ParameterSpec>& parameters() const { return graph_.parameters(); }
  const std::vector<ParameterSpec>& state() const { return graph_.state(); }
  // Of parameters() or state().
  absl::Span<float> values(const ParameterSpec& tensor);
  // Of parameters().
  absl::Span<const float> gradient(const ParameterSpec& parameter) const;

  // Also moves running statistics, in training mode.
  void Forward();
  // After Forward, with `backward`.
  void Backward();

  const std::vector<ImplementationChoice>& implementations() const { return planner_->choices(); }

 private:
  explicit SingleLayer(Graph graph) : graph_(std::move(graph)) {}

  absl::Status PlanPasses(const SingleLayerOptions& options);

  Graph graph_;
  Arena parameters_, gradients_, state_;
  std::unique_ptr<Planner> planner_;
  std::unique_ptr<Layer> layer_;
  View x_, y_, d_y_, d_x_;
  OpList read_y_, read_d_x_;
};

}  // namespace normlab::engine
