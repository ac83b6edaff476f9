#include "engine/layers/flatten.h"

#include "common/status_macros.h"

namespace normlab::engine {

absl::StatusOr<View> FlattenLayer::PlanForward(Planner& planner, absl::Span<const View> inputs) {
  const View& x = inputs[0];
  x_dims_ = x.layout.dims();
  NORMLAB_ASSIGN_OR_RETURN(const View plain,
                           planner.Convert(name(), x, Layout::RowMajor(x_dims_), forward_));
  const int64_t batch = planner.batch();
  return View{Layout::RowMajor({batch, ElementCount(x_dims_) / batch}), plain.buffer};
}

absl::StatusOr<View> FlattenLayer::PlanBackward(Planner& planner,
                                                const View& d_y,
                                                bool /*wants_d_x*/) {
  View plain = d_y;
  if (!d_y.layout.is_row_major()) {
    plain = planner.Reserve(Layout::RowMajor(d_y.layout.dims()));
    NORMLAB_RETURN_IF_ERROR(planner.ConvertInto(name(), d_y, plain, backward_));
  }
  return View{Layout::RowMajor(x_dims_), plain.buffer};
}

}  // namespace normlab::engine
