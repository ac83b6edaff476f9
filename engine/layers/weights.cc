#include "engine/layers/weights.h"

#include "common/status_macros.h"

namespace normlab::engine {
namespace {

View PlainView(Planner& planner, float* data, const Layout& plain) {
  return {plain, planner.Borrow(data, plain.bytes() / static_cast<int64_t>(sizeof(float)))};
}

}  // namespace

absl::StatusOr<View> PlanWeights(Planner& planner,
                                 absl::string_view layer,
                                 float* weight,
                                 const Layout& plain,
                                 const Layout& wanted,
                                 OpList& refresh) {
  const View in_model = PlainView(planner, weight, plain);
  if (wanted == plain) {
    return in_model;
  }
  const View copy = planner.ReserveKept(wanted);
  NORMLAB_RETURN_IF_ERROR(planner.ConvertInto(layer, in_model, copy, refresh, "reorder_weights"));
  return copy;
}

absl::StatusOr<View> PlanWeightGradient(Planner& planner,
                                        absl::string_view layer,
                                        float* d_weight,
                                        const Layout& plain,
                                        const Layout& wanted,
                                        OpList& after) {
  const View in_model = PlainView(planner, d_weight, plain);
  if (wanted == plain) {
    return in_model;
  }
  const View copy = planner.Reserve(wanted);
  NORMLAB_RETURN_IF_ERROR(planner.ConvertInto(layer, copy, in_model, after, "reorder_gradient"));
  return copy;
}

}  // namespace normlab::engine
