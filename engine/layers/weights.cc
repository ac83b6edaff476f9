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
  return PlanWeights(planner, layer, PlainView(planner, weight, plain), wanted, refresh);
}

absl::StatusOr<View> PlanWeights(Planner& planner,
                                 absl::string_view layer,
                                 const View& plain,
                                 const Layout& wanted,
                                 OpList& refresh) {
  if (wanted == plain.layout) {
    return plain;
  }
  const View copy = planner.ReserveKept(wanted);
  NORMLAB_RETURN_IF_ERROR(planner.ConvertInto(layer, plain, copy, refresh));
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
  NORMLAB_RETURN_IF_ERROR(planner.ConvertInto(layer, copy, in_model, after));
  return copy;
}

}  // namespace normlab::engine
