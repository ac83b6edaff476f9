#include "engine/layers/normalization/normalizer_layers.h"

#include "engine/layers/normalization/channel_normalizer_layer.h"
#include "engine/layers/normalization/dynamic_tanh_layer.h"
#include "engine/layers/normalization/group_norm_layer.h"
#include "engine/layers/normalization/noisy_batch_norm_layer.h"
#include "engine/layers/normalization/row_normalizer_layer.h"

namespace normlab::engine {
namespace {

ChannelNormalization OverBatch(const BatchNormNode& batch) {
  ChannelNormalization norm;
  norm.formula.epsilon = batch.epsilon;
  norm.sets = ChannelNormalization::Sets::kBatch;
  norm.running_update_rate = batch.running_update_rate;
  return norm;
}

std::unique_ptr<Layer> MakeChannels(const Node& node,
                                    const ChannelNormalization& norm,
                                    FusibleActivation fusible,
                                    const LayerParameters& parameters) {
  return std::make_unique<ChannelNormalizerLayer>(node, norm, fusible, parameters);
}

}  // namespace

std::unique_ptr<Layer> MakeNormalizerLayer(const Node& node,
                                           const BatchNormNode& norm,
                                           FusibleActivation fusible,
                                           const LayerParameters& parameters) {
  return MakeChannels(node, OverBatch(norm), fusible, parameters);
}

std::unique_ptr<Layer> MakeNormalizerLayer(const Node& node,
                                           const GroupNormNode& norm,
                                           FusibleActivation fusible,
                                           const LayerParameters& parameters) {
  return std::make_unique<GroupNormLayer>(node, norm, fusible, parameters);
}

std::unique_ptr<Layer> MakeNormalizerLayer(const Node& node,
                                           const RmsNormNode& norm,
                                           FusibleActivation fusible,
                                           const LayerParameters& parameters) {
  const NormalizerFormula formula = {
      .centred = false, .scale = ScaleKind::kRootMeanSquare, .epsilon = norm.epsilon};
  if (node.in.size() == 1) {
    return std::make_unique<RowNormalizerLayer>(node, formula, /*groups=*/1, fusible, parameters);
  }
  ChannelNormalization channels;
  channels.formula = formula;
  channels.sets = ChannelNormalization::Sets::kGroups;
  channels.groups = 1;
  channels.one_value_is_fine = true;
  return MakeChannels(node, channels, fusible, parameters);
}

std::unique_ptr<Layer> MakeNormalizerLayer(const Node& node,
                                           const BatchRenormNode& norm,
                                           FusibleActivation fusible,
                                           const LayerParameters& parameters) {
  ChannelNormalization channels = OverBatch(norm.batch);
  channels.renorm = CorrectionLimits{.r_max = norm.r_max, .d_max = norm.d_max};
  return MakeChannels(node, channels, fusible, parameters);
}

std::unique_ptr<Layer> MakeNormalizerLayer(const Node& node,
                                           const GhostBatchNormNode& norm,
                                           FusibleActivation fusible,
                                           const LayerParameters& parameters) {
  ChannelNormalization channels = OverBatch(norm.batch);
  channels.ghost_size = norm.size;
  return MakeChannels(node, channels, fusible, parameters);
}

std::unique_ptr<Layer> MakeNormalizerLayer(const Node& node,
                                           const LpBatchNormNode& norm,
                                           FusibleActivation fusible,
                                           const LayerParameters& parameters) {
  ChannelNormalization channels = OverBatch(norm.batch);
  switch (norm.power) {
    case LpBatchNormNode::Power::kOne:
      channels.formula.scale = ScaleKind::kMeanAbsolute;
      break;
    case LpBatchNormNode::Power::kTwo:
      channels.formula.scale = ScaleKind::kRootMeanSquare;
      break;
    case LpBatchNormNode::Power::kInfinity:
      channels.formula.scale = ScaleKind::kMaximumAbsolute;
      break;
  }
  return MakeChannels(node, channels, fusible, parameters);
}

std::unique_ptr<Layer> MakeNormalizerLayer(const Node& node,
                                           const FilterResponseNode& norm,
                                           FusibleActivation /*fusible*/,
                                           const LayerParameters& parameters) {
  ChannelNormalization channels;
  channels.formula = {
      .centred = false, .scale = ScaleKind::kRootMeanSquare, .epsilon = norm.epsilon};
  channels.sets = ChannelNormalization::Sets::kGroups;
  channels.groups = node.in[0];
  channels.one_value_is_fine = true;
  channels.threshold = true;
  // The threshold is the activation.
  return MakeChannels(node, channels, std::nullopt, parameters);
}

std::unique_ptr<Layer> MakeNormalizerLayer(const Node& node,
                                           const DynamicTanhNode& /*norm*/,
                                           FusibleActivation /*fusible*/,
                                           const LayerParameters& parameters) {
  return std::make_unique<DynamicTanhLayer>(node, parameters);
}

std::unique_ptr<Layer> MakeNormalizerLayer(const Node& node,
                                           const MeanOnlyBatchNormNode& norm,
                                           FusibleActivation fusible,
                                           const LayerParameters& parameters) {
  ChannelNormalization channels;
  channels.formula = {.centred = true, .scale = ScaleKind::kOne, .epsilon = 0};
  channels.sets = ChannelNormalization::Sets::kBatch;
  channels.running_update_rate = norm.running_update_rate;
  return MakeChannels(node, channels, fusible, parameters);
}

std::unique_ptr<Layer> MakeNormalizerLayer(const Node& node,
                                           const FrozenBatchNormNode& norm,
                                           FusibleActivation fusible,
                                           const LayerParameters& parameters) {
  ChannelNormalization channels = OverBatch(norm.batch);
  channels.frozen = true;
  return MakeChannels(node, channels, fusible, parameters);
}

std::unique_ptr<Layer> MakeNormalizerLayer(const Node& node,
                                           const NoisyBatchNormNode& norm,
                                           FusibleActivation fusible,
                                           const LayerParameters& parameters) {
  return std::make_unique<NoisyBatchNormLayer>(node, norm, fusible, parameters);
}

}  // namespace normlab::engine
