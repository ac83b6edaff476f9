#include "engine/layers/flatten.h"

#include "common/status_macros.h"

namespace normlab::engine {

absl::StatusOr<View> FlattenLayer::PlanForward(Planner& planner, absl::Span<const View> inputs) {
  const View& x = inputs[0];
  x_dims_ = x.layout.dims();
  NORMLAB_ASSIGN_OR_RETURN(
      const View plain,
      planner.Convert(name(), x, Layout::RowMajor(x_dims_, x.layout.type()), forward_));
  const int64_t batch = planner.batch();
  View y = plain;
  y.layout = Layout::RowMajor({batch, ElementCount(x_dims_) / batch}, x.layout.type());
  return y;
}

absl::StatusOr<View> FlattenLayer::PlanBackward(Planner& planner,
                                                const View& d_y,
                                                bool /*wants_d_x*/) {
  const DataType type = d_y.layout.type();
  NORMLAB_ASSIGN_OR_RETURN(
      const View plain,
      planner.Convert(name(), d_y, Layout::RowMajor(d_y.layout.dims(), type), backward_));
  return View{Layout::RowMajor(x_dims_, type), plain.buffer};
}

}  // namespace normlab::engine
