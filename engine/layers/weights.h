#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "engine/layers/plan.h"

namespace normlab::engine {

// The weights of a layer as an op wants them: the model's own memory when it wants the plain
// layout, else a working copy whose refresh is added to `refresh`.
absl::StatusOr<View> PlanWeights(Planner& planner,
                                 absl::string_view layer,
                                 float* weight,
                                 const Layout& plain,
                                 const Layout& wanted,
                                 OpList& refresh);

// The same of weights in memory of the plan, `plain`.
absl::StatusOr<View> PlanWeights(Planner& planner,
                                 absl::string_view layer,
                                 const View& plain,
                                 const Layout& wanted,
                                 OpList& refresh);

// Where an op shall write the gradient of the weights: the model's own memory, or a passing copy
// whose reorder into the model's memory is added to `after` (to run after the op).
absl::StatusOr<View> PlanWeightGradient(Planner& planner,
                                        absl::string_view layer,
                                        float* d_weight,
                                        const Layout& plain,
                                        const Layout& wanted,
                                        OpList& after);

}  // namespace normlab::engine
