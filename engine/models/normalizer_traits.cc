#include "engine/models/normalizer_traits.h"

#include <algorithm>

namespace normlab::engine {
namespace {

// Largest number of groups that group norm's default takes (Wu and He 2018).
constexpr int64_t kMostDefaultGroups = 32;
// Statistics of fewer values say nothing.
constexpr int64_t kFewestChannels = 2;
constexpr int64_t kFewestValues = 8;

// The settings that the batch family has in common; Message lacks some for some kinds.
template <typename Message>
BatchNormNode ToBatchNode(const Message& message, float initial_gamma) {
  return {.epsilon = message.epsilon(),
          .running_update_rate = message.running_update_rate(),
          .affine = message.affine(),
          .initial_gamma = initial_gamma};
}

template <typename Message>
GroupNormNode ToGroupNode(const Message& message, int64_t groups, float initial_gamma) {
  return {.groups = groups,
          .epsilon = message.epsilon(),
          .affine = message.affine(),
          .initial_gamma = initial_gamma};
}

int64_t DefaultGroups(const Dims& dims) {
  const int64_t channels = dims[0];
  const int64_t area = dims.size() == 3 ? dims[1] * dims[2] : 1;
  for (int64_t groups = std::min(kMostDefaultGroups, channels); groups > 1; --groups) {
    const int64_t in_group = channels / groups;
    if (channels % groups == 0 && in_group >= kFewestChannels && in_group * area >= kFewestValues) {
      return groups;
    }
  }
  return 1;
}

template <typename Message>
int64_t GroupsOf(const Message& message, const Dims& dims) {
  return message.has_groups() ? message.groups() : DefaultGroups(dims);
}

NoisyBatchNormNode ToNoisyNode(const v1::NoisyBatchNorm& noisy, float initial_gamma) {
  return {.batch = ToBatchNode(noisy, initial_gamma),
          .normalize = noisy.normalize(),
          .mean_range = noisy.mean_range(),
          .deviation_range = noisy.deviation_range(),
          .mean_jitter = noisy.mean_jitter(),
          .deviation_jitter = noisy.deviation_jitter()};
}

// Normalizers of the layer's output with gamma and beta, both or none.
template <typename Message>
NormalizerTraits AffineTraits(const char* prefix, const Message& message, bool subtracts_a_mean) {
  return {.prefix = prefix,
          .layer_has_bias = !message.affine() && !subtracts_a_mean,
          .has_gamma = message.affine()};
}

NormalizerTraits WeightNormTraits(const v1::WeightNorm& weight) {
  NormalizerTraits traits;
  traits.weights.transform = WeightTransform::kWeightNorm;
  traits.weights.data_dependent_init = weight.data_dependent_init();
  if (weight.mean_only_batch_norm()) {
    traits.prefix = "bn";
    traits.layer_has_bias = false;  // the bias is that of mean-only batch norm
  }
  return traits;
}

NormalizerTraits WeightStandardizationTraits(const v1::WeightStandardization& standardization) {
  NormalizerTraits traits;
  if (standardization.group_norm()) {
    traits = AffineTraits("gn", standardization, /*subtracts_a_mean=*/false);
  }
  traits.weights.transform = WeightTransform::kStandardization;
  return traits;
}

}  // namespace

NormalizerTraits TraitsOf(const v1::Normalizer& resolved) {
  constexpr bool kSubtractsAMean = true;  // of each channel
  switch (resolved.kind_case()) {
    case v1::Normalizer::kBatch:
      return AffineTraits("bn", resolved.batch(), kSubtractsAMean);
    case v1::Normalizer::kNoisyBatch:
      return resolved.noisy_batch().normalize()
                 ? AffineTraits("bn", resolved.noisy_batch(), kSubtractsAMean)
                 : NormalizerTraits{.prefix = "noise"};
    case v1::Normalizer::kLayer:
      return AffineTraits("ln", resolved.layer(), !kSubtractsAMean);
    case v1::Normalizer::kGroup:
      return AffineTraits("gn", resolved.group(), !kSubtractsAMean);
    case v1::Normalizer::kInstance:
      return AffineTraits("in", resolved.instance(), kSubtractsAMean);
    case v1::Normalizer::kWeight:
      return WeightNormTraits(resolved.weight());
    case v1::Normalizer::kRms:  // has no beta
      return {.prefix = "rms", .has_gamma = resolved.rms().affine()};
    case v1::Normalizer::kWeightStandardization:
      return WeightStandardizationTraits(resolved.weight_standardization());
    case v1::Normalizer::kBatchRenorm:
      return AffineTraits("bn", resolved.batch_renorm(), kSubtractsAMean);
    case v1::Normalizer::kGhostBatch:
      return AffineTraits("bn", resolved.ghost_batch(), kSubtractsAMean);
    case v1::Normalizer::kL1Batch:
      return AffineTraits("bn", resolved.l1_batch(), kSubtractsAMean);
    case v1::Normalizer::kL2Batch:
      return AffineTraits("bn", resolved.l2_batch(), kSubtractsAMean);
    case v1::Normalizer::kLinfBatch:
      return AffineTraits("bn", resolved.linf_batch(), kSubtractsAMean);
    case v1::Normalizer::kFilterResponse:
      return {
          .prefix = "frn", .layer_has_bias = false, .has_gamma = true, .replaces_activation = true};
    case v1::Normalizer::kDyt:
      return AffineTraits("dyt", resolved.dyt(), !kSubtractsAMean);
    case v1::Normalizer::kMeanOnlyBatch:  // subtracts a mean, and has a beta but no gamma
      return {.prefix = "bn", .layer_has_bias = false};
    case v1::Normalizer::kFrozenBatch:
      // What it subtracts does not follow the bias.
      return AffineTraits("bn", resolved.frozen_batch(), !kSubtractsAMean);
    case v1::Normalizer::kFixup:  // scalar biases, which the model places
      return {.layer_has_bias = false};
    case v1::Normalizer::kSkipInit:
    case v1::Normalizer::kNone:
    case v1::Normalizer::KIND_NOT_SET:
      break;
  }
  return {};
}

std::optional<NodeKind> NormalizerNode(const v1::Normalizer& resolved,
                                       const Dims& dims,
                                       float initial_gamma) {
  switch (resolved.kind_case()) {
    case v1::Normalizer::kBatch:
      return ToBatchNode(resolved.batch(), initial_gamma);
    case v1::Normalizer::kNoisyBatch:
      return ToNoisyNode(resolved.noisy_batch(), initial_gamma);
    case v1::Normalizer::kLayer:
      return ToGroupNode(resolved.layer(), 1, initial_gamma);
    case v1::Normalizer::kGroup:
      return ToGroupNode(resolved.group(), GroupsOf(resolved.group(), dims), initial_gamma);
    case v1::Normalizer::kInstance:
      return ToGroupNode(resolved.instance(), dims[0], initial_gamma);
    case v1::Normalizer::kWeight:
      if (resolved.weight().mean_only_batch_norm()) {
        return MeanOnlyBatchNormNode{};
      }
      return std::nullopt;
    case v1::Normalizer::kRms:
      return RmsNormNode{.epsilon = resolved.rms().epsilon(),
                         .affine = resolved.rms().affine(),
                         .initial_gamma = initial_gamma};
    case v1::Normalizer::kWeightStandardization: {
      const v1::WeightStandardization& standardization = resolved.weight_standardization();
      if (!standardization.group_norm()) {
        return std::nullopt;
      }
      return ToGroupNode(standardization, GroupsOf(standardization, dims), initial_gamma);
    }
    case v1::Normalizer::kBatchRenorm:
      return BatchRenormNode{.batch = ToBatchNode(resolved.batch_renorm(), initial_gamma),
                             .r_max = resolved.batch_renorm().r_max(),
                             .d_max = resolved.batch_renorm().d_max()};
    case v1::Normalizer::kGhostBatch:
      return GhostBatchNormNode{.batch = ToBatchNode(resolved.ghost_batch(), initial_gamma),
                                .size = resolved.ghost_batch().ghost_size()};
    case v1::Normalizer::kL1Batch:
      return LpBatchNormNode{.power = LpBatchNormNode::Power::kOne,
                             .batch = ToBatchNode(resolved.l1_batch(), initial_gamma)};
    case v1::Normalizer::kL2Batch:
      return LpBatchNormNode{.power = LpBatchNormNode::Power::kTwo,
                             .batch = ToBatchNode(resolved.l2_batch(), initial_gamma)};
    case v1::Normalizer::kLinfBatch:
      return LpBatchNormNode{.power = LpBatchNormNode::Power::kInfinity,
                             .batch = ToBatchNode(resolved.linf_batch(), initial_gamma)};
    case v1::Normalizer::kFilterResponse:
      return FilterResponseNode{.epsilon = resolved.filter_response().epsilon(),
                                .initial_gamma = initial_gamma};
    case v1::Normalizer::kDyt:
      return DynamicTanhNode{.initial_alpha = resolved.dyt().initial_alpha(),
                             .affine = resolved.dyt().affine(),
                             .initial_gamma = initial_gamma};
    case v1::Normalizer::kMeanOnlyBatch:
      return MeanOnlyBatchNormNode{
          .running_update_rate = resolved.mean_only_batch().running_update_rate(),
          .affine = resolved.mean_only_batch().affine()};
    case v1::Normalizer::kFrozenBatch:
      return FrozenBatchNormNode{.batch = {.epsilon = resolved.frozen_batch().epsilon(),
                                           .running_update_rate = 0,
                                           .affine = resolved.frozen_batch().affine(),
                                           .initial_gamma = initial_gamma}};
    case v1::Normalizer::kNone:
    case v1::Normalizer::kFixup:
    case v1::Normalizer::kSkipInit:
    case v1::Normalizer::KIND_NOT_SET:
      break;
  }
  return std::nullopt;
}

}  // namespace normlab::engine
