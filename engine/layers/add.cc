#include "engine/layers/add.h"

#include <algorithm>

#include "common/status_macros.h"
#include "engine/layers/sum_kernels.h"

namespace normlab::engine {
namespace {

constexpr char kOwnLoop[] = "normlab:sum";

}  // namespace

absl::StatusOr<View> AddLayer::PlanForward(Planner& planner, absl::Span<const View> inputs) {
  const Layout layout = inputs[0].layout;
  for (const View& input : inputs) {
    NORMLAB_ASSIGN_OR_RETURN(View converted, planner.Convert(name(), input, layout, forward_));
    inputs_.push_back(std::move(converted));
  }
  const auto over =
      std::find_if(inputs_.begin(), inputs_.end(), [](const View& x) { return x.overwritable; });
  if (over != inputs_.end() && inputs_.size() == 2) {  // of more, one would be gone too early
    y_ = *over;
    y_.overwritable = false;
  } else {
    y_ = planner.Reserve(layout);
  }
  y_.nan_checked =
      std::all_of(inputs.begin(), inputs.end(), [](const View& x) { return x.nan_checked; });
  planner.Record(name(), "forward", kOwnLoop);
  return y_;
}

bool AddLayer::AddGradient(const View& other_d_y) {
  if (!fused_ || other_d_y_.has_value()) {
    return false;
  }
  other_d_y_ = other_d_y;
  return true;
}

absl::StatusOr<View> AddLayer::PlanBackward(Planner& planner, const View& d_y, bool /*wants_d_x*/) {
  if (!fused_) {
    return d_y;
  }
  NORMLAB_ASSIGN_OR_RETURN(d_y_, planner.Convert(name(), d_y, y_.layout, backward_));
  if (other_d_y_.has_value()) {
    NORMLAB_ASSIGN_OR_RETURN(other_d_y_,
                             planner.Convert(name(), *other_d_y_, y_.layout, backward_));
  }
  planner.Use(y_);
  d_x_ = planner.Reserve(y_.layout);
  planner.Record(name(), "backward_data", kOwnLoop);
  return d_x_;
}

void AddLayer::Forward() {
  RunAll(forward_);
  const View* sum = inputs_.data();
  for (size_t i = 1; i < inputs_.size(); ++i) {
    const bool last = i + 1 == inputs_.size();
    (last && fused_ ? SumRelu : Sum)(*sum, inputs_[i], y_);
    sum = &y_;
  }
}

void AddLayer::Backward() {
  RunAll(backward_);
  if (!fused_) {
    return;
  }
  if (other_d_y_.has_value()) {
    SumMaskedByOutput(y_, d_y_, *other_d_y_, d_x_);
  } else {
    MaskByOutput(y_, d_y_, d_x_);
  }
}

absl::StatusOr<View> GradientSum::Plan(Planner& planner,
                                       absl::string_view layer,
                                       const View& a,
                                       const View& b) {
  a_ = a;
  planner.Use(a_);
  NORMLAB_ASSIGN_OR_RETURN(b_, planner.Convert(layer, b, a.layout, ops_));
  sum_ = planner.Reserve(a.layout);
  planner.Record(layer, "gradient_sum", kOwnLoop);
  return sum_;
}

void GradientSum::Run() const {
  RunAll(ops_);
  Sum(a_, b_, sum_);
}

}  // namespace normlab::engine
