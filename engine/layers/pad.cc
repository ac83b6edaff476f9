#include "engine/layers/pad.h"

#include <algorithm>

#include "common/status_macros.h"
#include "engine/layers/elementwise.h"

namespace normlab::engine {
namespace {

constexpr char kOwnLoop[] = "normlab:copy";

}  // namespace

absl::StatusOr<View> PadLayer::PlanForward(Planner& planner, absl::Span<const View> inputs) {
  NORMLAB_ASSIGN_OR_RETURN(
      x_, planner.Convert(name(), inputs[0], Layout::RowMajor(inputs[0].layout.dims()), forward_));
  planes_ = planner.batch() * in_[0];
  y_ = planner.Reserve(Layout::RowMajor({planner.batch(), out_[0], out_[1], out_[2]}));
  y_.nan_checked = x_.nan_checked;
  planner.Record(name(), "forward", kOwnLoop);
  return y_;
}

absl::StatusOr<View> PadLayer::PlanBackward(Planner& planner, const View& d_y, bool wants_d_x) {
  if (!wants_d_x) {
    return View();
  }
  NORMLAB_ASSIGN_OR_RETURN(d_y_, planner.Convert(name(), d_y, y_.layout, backward_));
  d_x_ = planner.Reserve(x_.layout);
  planner.Record(name(), "backward_data", kOwnLoop);
  return d_x_;
}

void PadLayer::Forward() {
  RunAll(forward_);
  const int64_t top = (out_[1] - in_[1]) / 2;
  const int64_t left = (out_[2] - in_[2]) / 2;
#pragma omp parallel for schedule(static) if (y_.layout.element_count() > kSmallTensorElements)
  for (int64_t plane = 0; plane < planes_; ++plane) {
    const float* x = x_.floats() + plane * in_[1] * in_[2];
    float* y = y_.floats() + plane * out_[1] * out_[2];
    float* row = std::fill_n(y, top * out_[2], 0.0F);
    for (int64_t h = 0; h < in_[1]; ++h) {
      row = std::fill_n(row, left, 0.0F);
      row = std::copy_n(x + h * in_[2], in_[2], row);
      row = std::fill_n(row, out_[2] - in_[2] - left, 0.0F);
    }
    std::fill(row, y + out_[1] * out_[2], 0.0F);
  }
}

void PadLayer::Backward() {
  RunAll(backward_);
  if (d_x_.buffer == nullptr) {
    return;
  }
  const int64_t top = (out_[1] - in_[1]) / 2;
  const int64_t left = (out_[2] - in_[2]) / 2;
#pragma omp parallel for schedule(static) if (d_y_.layout.element_count() > kSmallTensorElements)
  for (int64_t plane = 0; plane < planes_; ++plane) {
    const float* d_y = d_y_.floats() + (plane * out_[1] + top) * out_[2] + left;
    float* d_x = d_x_.floats() + plane * in_[1] * in_[2];
    for (int64_t h = 0; h < in_[1]; ++h) {
      std::copy_n(d_y + h * out_[2], in_[2], d_x + h * in_[2]);
    }
  }
}

}  // namespace normlab::engine
