#include "engine/layers/softmax_cross_entropy.h"

#include <cmath>
#include <limits>

#include "common/status_macros.h"
#include "engine/layers/elementwise.h"

namespace normlab::engine {

absl::StatusOr<View> SoftmaxCrossEntropyLayer::PlanForward(Planner& planner,
                                                           absl::Span<const View> inputs) {
  const View& x = inputs[0];
  run_ = &planner.run();
  batch_ = planner.batch();
  loss_batch_ = planner.loss_batch();
  const Layout plain = Layout::RowMajor({batch_, classes_});
  NORMLAB_ASSIGN_OR_RETURN(logits_, planner.Convert(name(), x, plain, forward_));
  probabilities_ = planner.Reserve(plain);
  largest_.resize(static_cast<size_t>(batch_));
  labels_ = planner.ReserveKept(batch_ * static_cast<int64_t>(sizeof(int32_t)));
  planner.Record(name(), "forward", "normlab:loop");
  return View();
}

absl::StatusOr<View> SoftmaxCrossEntropyLayer::PlanBackward(Planner& planner,
                                                            const View& /*d_y*/,
                                                            bool /*wants_d_x*/) {
  planner.Use(probabilities_);
  d_logits_ = planner.Reserve(logits_.layout);
  planner.Record(name(), "backward_data", "normlab:loop");
  return d_logits_;
}

absl::Span<int32_t> SoftmaxCrossEntropyLayer::labels() {
  return {reinterpret_cast<int32_t*>(labels_->data), static_cast<size_t>(batch_)};
}

absl::Span<const float> SoftmaxCrossEntropyLayer::outputs() const {
  return {logits_.floats(), static_cast<size_t>(batch_ * classes_)};
}

void SoftmaxCrossEntropyLayer::Forward() {
  RunAll(forward_);
  const auto* labels = reinterpret_cast<const int32_t*>(labels_->data);
  for (int64_t n = 0; n < batch_; ++n) {
    const float* row = logits_.floats() + n * classes_;
    float* p = probabilities_.floats() + n * classes_;
    int64_t largest = 0;
    for (int64_t c = 1; c < classes_; ++c) {
      if (row[c] > row[largest]) {
        largest = c;
      }
    }
    for (int64_t c = 0; c < classes_; ++c) {
      p[c] = row[c] - row[largest];
    }
    largest_[static_cast<size_t>(n)] = largest;
  }
  // In one go: rows are short, often shorter than a vector.
  Exponentials(batch_ * classes_, probabilities_.floats(), probabilities_.floats());
  double total = 0;
  correct_ = 0;
  for (int64_t n = 0; n < batch_; ++n) {
    const float* row = logits_.floats() + n * classes_;
    float* p = probabilities_.floats() + n * classes_;
    double sum = 0;
    for (int64_t c = 0; c < classes_; ++c) {
      sum += p[c];
    }
    const auto scale = static_cast<float>(1.0 / sum);
    for (int64_t c = 0; c < classes_; ++c) {
      p[c] *= scale;
    }
    const int64_t label = labels[n];
    const int64_t largest = largest_[static_cast<size_t>(n)];
    const double row_loss =
        std::log(sum) - (static_cast<double>(row[label]) - static_cast<double>(row[largest]));
    total += row_loss;
    correct_ += largest == label && !std::isnan(row_loss) ? 1 : 0;
  }
  loss_ = run_->saw_nan ? std::numeric_limits<double>::quiet_NaN()
                        : total / static_cast<double>(loss_batch_);
}

void SoftmaxCrossEntropyLayer::Backward() {
  const auto* labels = reinterpret_cast<const int32_t*>(labels_->data);
  const float scale = 1.0F / static_cast<float>(loss_batch_);
  for (int64_t n = 0; n < batch_; ++n) {
    const float* p = probabilities_.floats() + n * classes_;
    float* d = d_logits_.floats() + n * classes_;
    for (int64_t c = 0; c < classes_; ++c) {
      d[c] = p[c] * scale;
    }
    d[labels[n]] = (p[labels[n]] - 1.0F) * scale;
  }
}

}  // namespace normlab::engine
