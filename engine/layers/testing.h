#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "engine/graph/graph.h"
#include "engine/layers/layer.h"
#include "engine/layers/reference.h"

// What the tests of layers share.
namespace normlab::engine::testing {

using reference::Tensor;

// Largest difference allowed between float implementations and the double reference, relative to
// the largest element: sums here have up to about 1,000 terms, whose rounding errors (6e-8 each)
// grow like the root of their number.
inline constexpr double kFloatTolerance = 1e-5;

// Numbers of N(0,1) that are exact in float, the same for the same name and count.
Tensor Random(absl::string_view name, int64_t count);

// N(0,1) rounded to bf16, so that rounding it again changes nothing.
Tensor RandomBf16(absl::string_view name, int64_t count);

// One rounding to bf16 of a result, relative to the largest (8 bits of significand).
inline constexpr double kBf16Tolerance = 1.0 / 256;

// Largest |a - b| over the largest |b| (over 1 when b is all but zero); infinite when sizes differ
// or a has NaN.
double RelativeError(const Tensor& a, const Tensor& b);

// The gradient of sum(y(x) * d_y) with respect to x by central differences in double.
template <typename Function>
Tensor CentralDifference(const Function& y, const Tensor& x, const Tensor& d_y) {
  constexpr double kStep = 1e-5;
  Tensor d_x(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    Tensor moved = x;
    moved[i] = x[i] + kStep;
    const Tensor up = y(moved);
    moved[i] = x[i] - kStep;
    const Tensor down = y(moved);
    for (size_t j = 0; j < d_y.size(); ++j) {
      d_x[i] += d_y[j] * (up[j] - down[j]) / (2 * kStep);
    }
  }
  return d_x;
}

// Truncation (step^2) and cancellation (1e-16 / step) of CentralDifference on numbers of size 1.
inline constexpr double kDifferenceTolerance = 1e-7;

struct HarnessOptions {
  Mode mode = Mode::kTraining;
  // An activation that the layer may fuse.
  std::optional<ActivationKind> next;
  // How x comes, and d_y in the layout of y then; default: both plain.
  std::optional<Layout> x_layout;
  // Type and convolution policy (batch and mode do not count); in bf16 the layer gets x and d_y
  // rounded to bf16.
  PlanOptions plan;
  uint32_t seed = 0;
};

// One layer, planned and fed on its own; all tensors are row-major.
class LayerHarness {
 public:
  LayerHarness(const Dims& in, NodeKind kind, int64_t batch, HarnessOptions options);
  LayerHarness(const Dims& in,
               NodeKind kind,
               int64_t batch,
               Mode mode = Mode::kTraining,
               std::optional<ActivationKind> next = std::nullopt,
               PlanOptions plan = {});

  // Of planning; checked by the caller before anything else.
  const absl::Status& status() const { return status_; }
  bool fused() const;
  Layer& layer() { return *layer_; }
  RunState& run() { return planner_->run(); }
  const Layout& y_layout() const { return y_layout_; }
  // Of the last Forward.
  bool saw_nan() const { return planner_->run().saw_nan; }
  const std::vector<ImplementationChoice>& choices() const { return planner_->choices(); }

  int64_t x_count() const { return planner_->batch() * ElementCount(graph_.input()); }
  int64_t y_count() const { return planner_->batch() * ElementCount(graph_.nodes()[0].out); }

  // Values and gradients of "weight", "bias", "running_mean", "running_var".
  void Set(absl::string_view tensor, const Tensor& values);
  Tensor Get(absl::string_view tensor) const;
  Tensor Gradient(absl::string_view tensor) const;

  // Runs ParametersChanged and Forward, returns y.
  Tensor Forward(const Tensor& x);
  // The same with ForwardInitializing.
  Tensor ForwardInitializing(const Tensor& x);
  // Returns d_x.
  Tensor Backward(const Tensor& d_y);

 private:
  absl::Status Plan(const Dims& in, int64_t batch, const HarnessOptions& options);
  absl::Status PlanGradients(const View& y, const HarnessOptions& options);
  void Begin(const Tensor& x);
  const ParameterSpec& Find(absl::string_view tensor) const;
  const std::vector<float>& ValuesOf(absl::string_view tensor) const;

  Graph graph_;
  std::vector<float> parameters_, gradients_, state_;
  std::unique_ptr<Planner> planner_;
  std::unique_ptr<Layer> layer_;
  absl::Status status_;
  View x_, y_, d_y_, d_x_;
  Layout y_layout_;
  OpList write_x_, read_y_, write_d_y_, read_d_x_;
};

}  // namespace normlab::engine::testing
