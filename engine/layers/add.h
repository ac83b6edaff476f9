#pragma once

#include <optional>
#include <vector>

#include "engine/graph/graph.h"
#include "engine/layers/layer.h"

namespace normlab::engine {

// y = the sum of all inputs (a residual edge), in the layout of the first; the gradient of every
// input is d_y. May compute the ReLU that follows in the same pass, and then, backwards, also the sum
// of the gradients of two readers; and writes over an input that nobody else needs: at the end of a
// residual block it is passes over memory that cost.
class AddLayer final : public Layer {
 public:
  AddLayer(const Node& node, std::optional<ActivationKind> fusible)
      : Layer(node.name), fused_(fusible == ActivationKind::kRelu) {}

  absl::StatusOr<View> PlanForward(Planner& planner, absl::Span<const View> inputs) override;
  bool fused() const override { return fused_; }
  bool AddGradient(const View& other_d_y) override;
  absl::StatusOr<View> PlanBackward(Planner& planner, const View& d_y, bool wants_d_x) override;
  void Forward() override;
  void Backward() override;

 private:
  const bool fused_;

  std::vector<View> inputs_;  // in the layout of y
  View y_;
  View d_y_;
  std::optional<View> other_d_y_;
  View d_x_;
  OpList forward_;
  OpList backward_;
};

// The sum of the gradients that several readers of one tensor send back. Planned like a pass of its
// own.
class GradientSum {
 public:
  // Plans a + b, in the layout of `a`.
  absl::StatusOr<View> Plan(Planner& planner,
                            absl::string_view layer,
                            const View& a,
                            const View& b);
  void Run() const;

 private:
  View a_;
  View b_;
  View sum_;
  OpList ops_;
};

}  // namespace normlab::engine
