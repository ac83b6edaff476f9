#pragma once

#include <memory>
#include <optional>

#include "engine/graph/graph.h"
#include "engine/layers/layer.h"

// The layers of all normalizers but batch norm of one process (engine/layers/batch_norm.h). Formulas:
// docs/numerics.md.
//
// Activations may come in any layout and type. They are computed in float: images in the layout in
// which they come, if it is one that convolutions produce, so that nothing is reordered; y lies as x
// did then. What is said there of sets of one value: INVALID_ARGUMENT when planning, naming the
// layer. Statistics that are not finite are reported to RunState, like NaN.
namespace normlab::engine {

// What an activation that follows may be fused; nothing when nullopt.
using FusibleActivation = std::optional<ActivationKind>;

// Batch norm in the way of the others: with statistics over the batches of several ranks, which
// oneDNN's primitives have not.
std::unique_ptr<Layer> MakeNormalizerLayer(const Node& node,
                                           const BatchNormNode& norm,
                                           FusibleActivation fusible,
                                           const LayerParameters& parameters);
std::unique_ptr<Layer> MakeNormalizerLayer(const Node& node,
                                           const GroupNormNode& norm,
                                           FusibleActivation fusible,
                                           const LayerParameters& parameters);
std::unique_ptr<Layer> MakeNormalizerLayer(const Node& node,
                                           const RmsNormNode& norm,
                                           FusibleActivation fusible,
                                           const LayerParameters& parameters);
std::unique_ptr<Layer> MakeNormalizerLayer(const Node& node,
                                           const BatchRenormNode& norm,
                                           FusibleActivation fusible,
                                           const LayerParameters& parameters);
std::unique_ptr<Layer> MakeNormalizerLayer(const Node& node,
                                           const GhostBatchNormNode& norm,
                                           FusibleActivation fusible,
                                           const LayerParameters& parameters);
std::unique_ptr<Layer> MakeNormalizerLayer(const Node& node,
                                           const LpBatchNormNode& norm,
                                           FusibleActivation fusible,
                                           const LayerParameters& parameters);
std::unique_ptr<Layer> MakeNormalizerLayer(const Node& node,
                                           const FilterResponseNode& norm,
                                           FusibleActivation fusible,
                                           const LayerParameters& parameters);
std::unique_ptr<Layer> MakeNormalizerLayer(const Node& node,
                                           const DynamicTanhNode& norm,
                                           FusibleActivation fusible,
                                           const LayerParameters& parameters);
std::unique_ptr<Layer> MakeNormalizerLayer(const Node& node,
                                           const MeanOnlyBatchNormNode& norm,
                                           FusibleActivation fusible,
                                           const LayerParameters& parameters);
std::unique_ptr<Layer> MakeNormalizerLayer(const Node& node,
                                           const FrozenBatchNormNode& norm,
                                           FusibleActivation fusible,
                                           const LayerParameters& parameters);
std::unique_ptr<Layer> MakeNormalizerLayer(const Node& node,
                                           const NoisyBatchNormNode& norm,
                                           FusibleActivation fusible,
                                           const LayerParameters& parameters);

}  // namespace normlab::engine
