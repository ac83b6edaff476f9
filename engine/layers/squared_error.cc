#include "engine/layers/squared_error.h"

#include <cmath>
#include <limits>

#include "common/status_macros.h"

namespace normlab::engine {

absl::StatusOr<View> SquaredErrorLayer::PlanForward(Planner& planner,
                                                    absl::Span<const View> inputs) {
  run_ = &planner.run();
  batch_ = planner.batch();
  loss_batch_ = planner.loss_batch();
  has_labels_ = planner.options().classes;
  NORMLAB_ASSIGN_OR_RETURN(
      y_, planner.Convert(name(), inputs[0], Layout::RowMajor({batch_, outputs_count_}), forward_));
  (has_labels_ ? labels_ : targets_) = planner.ReserveKept(
      batch_ * (has_labels_ ? 1 : outputs_count_) * static_cast<int64_t>(sizeof(float)));
  planner.Record(name(), "forward", "normlab:loop");
  return View();
}

absl::StatusOr<View> SquaredErrorLayer::PlanBackward(Planner& planner,
                                                     const View& /*d_y*/,
                                                     bool /*wants_d_x*/) {
  planner.Use(y_);
  d_y_ = planner.Reserve(y_.layout);
  planner.Record(name(), "backward_data", "normlab:loop");
  return d_y_;
}

absl::Span<int32_t> SquaredErrorLayer::labels() {
  return labels_ == nullptr ? absl::Span<int32_t>()
                            : absl::MakeSpan(reinterpret_cast<int32_t*>(labels_->data),
                                             static_cast<size_t>(batch_));
}

absl::Span<float> SquaredErrorLayer::targets() {
  return targets_ == nullptr
             ? absl::Span<float>()
             : absl::MakeSpan(targets_->floats(), static_cast<size_t>(batch_ * outputs_count_));
}

absl::Span<const float> SquaredErrorLayer::outputs() const {
  return {y_.floats(), static_cast<size_t>(batch_ * outputs_count_)};
}

float SquaredErrorLayer::TargetAt(int64_t n, int64_t t) const {
  if (has_labels_) {
    return reinterpret_cast<const int32_t*>(labels_->data)[n] == t ? 1.0F : 0.0F;
  }
  return targets_->floats()[n * outputs_count_ + t];
}

void SquaredErrorLayer::Forward() {
  RunAll(forward_);
  double total = 0;
  correct_ = 0;
  for (int64_t n = 0; n < batch_; ++n) {
    const float* row = y_.floats() + n * outputs_count_;
    int64_t largest = 0;
    double row_loss = 0;
    for (int64_t t = 0; t < outputs_count_; ++t) {
      const double difference = static_cast<double>(row[t]) - TargetAt(n, t);
      row_loss += difference * difference;
      largest = row[t] > row[largest] ? t : largest;
    }
    total += row_loss;
    correct_ += has_labels_ && TargetAt(n, largest) == 1.0F && !std::isnan(row_loss) ? 1 : 0;
  }
  const double scale = mean_ ? 1.0 / static_cast<double>(loss_batch_ * outputs_count_) : 1.0;
  loss_ = run_->saw_nan ? std::numeric_limits<double>::quiet_NaN() : total * scale;
}

void SquaredErrorLayer::Backward() {
  const float scale = mean_ ? 2.0F / static_cast<float>(loss_batch_ * outputs_count_) : 2.0F;
  for (int64_t n = 0; n < batch_; ++n) {
    for (int64_t t = 0; t < outputs_count_; ++t) {
      const int64_t i = n * outputs_count_ + t;
      d_y_.floats()[i] = scale * (y_.floats()[i] - TargetAt(n, t));
    }
  }
}

}  // namespace normlab::engine
