#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

#include "engine/graph/graph.h"
#include "engine/layers/layer.h"

namespace normlab::engine {

// loss = mean over the batch of -log softmax(logits)[label], for logits [N,C]; d_logits = (softmax
// - onehot) / N.
//
// Stable for logits of any size (the row's maximum is subtracted). Summed in double, in the order
// of the batch. A NaN or infinite logit makes the loss NaN or infinite.
class SoftmaxCrossEntropyLayer final : public Layer {
 public:
  explicit SoftmaxCrossEntropyLayer(const Node& node) : Layer(node.name), classes_(node.in[0]) {}

  // Returns an empty view: the loss is read by loss().
  absl::StatusOr<View> PlanForward(Planner& planner, const View& x) override;
  // `d_y` is ignored: the gradient of the loss with respect to itself is 1.
  absl::StatusOr<View> PlanBackward(Planner& planner, const View& d_y, bool wants_d_x) override;
  void Forward() override;
  void Backward() override;

  // [N]; to be filled before Forward. 0 <= label < C, unchecked.
  absl::Span<int32_t> labels();
  // [N,C], plain.
  absl::Span<const float> logits() const;
  // Of the last Forward.
  double loss() const { return loss_; }
  // Examples whose largest logit (the first of equals) is the label; none in a row with NaN.
  int64_t correct() const { return correct_; }

 private:
  const int64_t classes_;

  int64_t batch_ = 0;
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
