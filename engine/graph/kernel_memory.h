#pragma once

#include <cstdint>

#include "engine/graph/graph.h"
#include "engine/graph/plan_estimate.h"
#include "engine/graph/saturating.h"

// What the kernels of linear layers and convolutions need beside activations: the largest that the
// algorithms may need that oneDNN and PlanSize::winograd allow. Internal to engine/graph; pure.
namespace normlab::engine {

enum class WeightPass { kGradientOfWeights, kOther };

// Channels in whole blocks.
int64_t PadChannels(int64_t channels);

WeightTransform TransformOf(const Node& node);

// Of the weights in a layout with blocks.
Saturating WeightElements(const Node& node);

bool MayUseWinograd(const Node& node, const PlanSize& size, WeightPass pass);
// Transformed once and for all, as for evaluation, weights are so many times as large.
inline constexpr int64_t kWinogradGrowth = 4;

// Bytes of scratch memory of one pass.
Saturating KernelScratch(const Node& node, const PlanSize& size, WeightPass pass);

}  // namespace normlab::engine
