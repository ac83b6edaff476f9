#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

#include "engine/graph/graph.h"
#include "engine/layers/loss.h"

namespace normlab::engine {

// loss = mean over the batch of -log softmax(logits)[label], for logits [N,C]; d_logits = (softmax
// - onehot) / N.
//
// Stable for logits of any size (the row's maximum is subtracted). Summed in double, in the order
// of the batch. A NaN or infinite logit makes the loss NaN or infinite.
class SoftmaxCrossEntropyLayer final : public LossLayer {
 public:
  explicit SoftmaxCrossEntropyLayer(const Node& node)
      : LossLayer(node.name), classes_(node.in[0]) {}

  absl::StatusOr<View> PlanForward(Planner& planner, absl::Span<const View> inputs) override;
  absl::StatusOr<View> PlanBackward(Planner& planner, const View& d_y, bool wants_d_x) override;
  void Forward() override;
  void Backward() override;

  absl::Span<int32_t> labels() override;
  absl::Span<float> targets() override { return {}; }
  absl::Span<const float> outputs() const override;
  double loss() const override { return loss_; }
  int64_t correct() const override { return correct_; }

 private:
  const int64_t classes_;

  const RunState* run_ = nullptr;
  int64_t batch_ = 0;
  int64_t loss_batch_ = 0;
  View logits_;
  View probabilities_;
  Buffer* labels_ = nullptr;
  View d_logits_;
  std::vector<int64_t> largest_;  // [N], index of the row's largest logit
  OpList forward_;
  double loss_ = 0;
  int64_t correct_ = 0;
};

}  // namespace normlab::engine
