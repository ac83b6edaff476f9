#pragma once

#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "engine/layers/plan.h"

namespace normlab::engine {

// Where a layer's tensors are in the arenas of the model; null when it has no such tensor. Plain
// layouts, not owned.
struct LayerParameters {
  float* weight = nullptr;
  float* d_weight = nullptr;
  float* bias = nullptr;
  float* d_bias = nullptr;
  float* gamma = nullptr;
  float* d_gamma = nullptr;
  float* beta = nullptr;
  float* d_beta = nullptr;
  float* gain = nullptr;  // of weight norm
  float* d_gain = nullptr;
  float* threshold = nullptr;  // of filter response normalization
  float* d_threshold = nullptr;
  float* alpha = nullptr;  // of DyT
  float* d_alpha = nullptr;
  float* scale = nullptr;  // a scalar
  float* d_scale = nullptr;
  float* running_mean = nullptr;
  float* running_var = nullptr;
};

// One layer of one plan. Life: PlanForward -> (training only) PlanBackward -> Planner::Finish ->
// ParametersChanged before the first Forward -> Forward, Backward as often as wanted.
//
// Planning may fail; Forward and Backward cannot, allocate nothing and take no lock.
// Thread-compatible. Owns nothing big: ops and buffers are the planner's, parameters the model's;
// both must outlive it.
class Layer {
 public:
  explicit Layer(std::string name) : name_(std::move(name)) {}
  virtual ~Layer() = default;
  Layer(const Layer&) = delete;
  Layer& operator=(const Layer&) = delete;

  const std::string& name() const { return name_; }

  // Plans y = f(inputs), each [batch, ...] (one, but for a sum), and returns y. INVALID_ARGUMENT,
  // naming the layer, when the batch cannot be computed; else the errors of primitives.h.
  virtual absl::StatusOr<View> PlanForward(Planner& planner, absl::Span<const View> inputs) = 0;
  // After PlanForward: whether the activation that follows is computed here too, so that y is the
  // activation's output and the layer's own never exists.
  virtual bool fused() const { return false; }
  // Plans the gradients given that of y, and returns that of x (an empty view when not wanted and
  // not computed anyway); of a sum, that of every input. Never overwrites d_y, which others may
  // read.
  virtual absl::StatusOr<View> PlanBackward(Planner& planner, const View& d_y, bool wants_d_x) = 0;

  // Before PlanBackward, when another reader of y sends a gradient back as well: true when the layer
  // takes it upon itself to add it to d_y; false when whoever plans has to.
  virtual bool AddGradient(const View& /*other_d_y*/) { return false; }

  // Refreshes working copies of the parameters in other layouts.
  virtual void ParametersChanged() {}
  virtual void Forward() = 0;
  // Forward, on the first batch of a run: also sets the parameters whose initial values depend on
  // data.
  virtual void ForwardInitializing() { Forward(); }
  // After Forward, with d_y filled: overwrites the gradients of x and of the parameters.
  virtual void Backward() = 0;

 private:
  std::string name_;
};

}  // namespace normlab::engine
