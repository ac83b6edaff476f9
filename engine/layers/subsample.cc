#include "engine/layers/subsample.h"

#include <algorithm>

#include "common/status_macros.h"
#include "engine/layers/elementwise.h"
#include "engine/layers/own_loops.h"

namespace normlab::engine {
namespace {

constexpr char kOwnLoop[] = "normlab:copy";

}  // namespace

absl::StatusOr<View> SubsampleLayer::PlanForward(Planner& planner, absl::Span<const View> inputs) {
  NORMLAB_ASSIGN_OR_RETURN(x_, PlanForOwnLoops(planner, name(), inputs[0], forward_));
  blocking_ = *x_.layout.channel_blocking();
  y_ = planner.Reserve(Layout::RowMajor({planner.batch(), out_[0], out_[1], out_[2]}));
  y_.nan_checked = x_.nan_checked;
  planner.Record(name(), "forward", kOwnLoop);
  return y_;
}

absl::StatusOr<View> SubsampleLayer::PlanBackward(Planner& planner,
                                                  const View& d_y,
                                                  bool /*wants_d_x*/) {
  NORMLAB_ASSIGN_OR_RETURN(d_y_, planner.Convert(name(), d_y, y_.layout, backward_));
  d_x_ = planner.Reserve(x_.layout);
  planner.Record(name(), "backward_data", kOwnLoop);
  return d_x_;
}

void SubsampleLayer::Forward() {
  RunAll(forward_);
  const float* x = x_.floats();
  const int64_t pixels = out_[1] * out_[2];
#pragma omp parallel for schedule(static) if (y_.layout.element_count() > kSmallTensorElements)
  for (int64_t plane = 0; plane < blocking_.batch * out_[0]; ++plane) {
    const int64_t n = plane / out_[0];
    const int64_t c = plane % out_[0];
    float* y = y_.floats() + plane * pixels;
    if (c >= in_[0]) {
      std::fill_n(y, pixels, 0.0F);
      continue;
    }
    const float* image = x + Place(blocking_, n, c, 0);
    for (int64_t h = 0; h < out_[1]; ++h) {
      for (int64_t w = 0; w < out_[2]; ++w) {
        y[h * out_[2] + w] = image[(h * in_[2] + w) * stride_ * blocking_.block];
      }
    }
  }
}

void SubsampleLayer::Backward() {
  RunAll(backward_);
  const float* d_y = d_y_.floats();
  const int64_t image_floats = blocking_.blocks() * blocking_.block * blocking_.area;
#pragma omp parallel for schedule(static) if (d_y_.layout.element_count() > kSmallTensorElements)
  for (int64_t n = 0; n < blocking_.batch; ++n) {
    std::fill_n(d_x_.floats() + n * image_floats, image_floats, 0.0F);
    for (int64_t c = 0; c < in_[0]; ++c) {
      const float* plane = d_y + (n * out_[0] + c) * out_[1] * out_[2];
      float* image = d_x_.floats() + Place(blocking_, n, c, 0);
      for (int64_t h = 0; h < out_[1]; ++h) {
        for (int64_t w = 0; w < out_[2]; ++w) {
          image[(h * in_[2] + w) * stride_ * blocking_.block] = plane[h * out_[2] + w];
        }
      }
    }
  }
}

}  // namespace normlab::engine
