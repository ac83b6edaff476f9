#include <algorithm>
#include <cstdint>

#include "engine/spec/defaults.h"
#include "engine/spec/resolve.h"
#include "engine/spec/resolve_parts.h"

namespace normlab::engine {
namespace {

constexpr double kDefaultEpsilon = 1e-5;
constexpr double kDefaultRunningUpdateRate = 0.1;

template <typename Message>
void ResolveEpsilon(Message& message, double standard = kDefaultEpsilon) {
  if (!message.has_epsilon()) {
    message.set_epsilon(standard);
  }
}

template <typename Message>
void ResolveRate(Message& message) {
  if (!message.has_running_update_rate()) {
    message.set_running_update_rate(kDefaultRunningUpdateRate);
  }
}

template <typename Message>
void ResolveAffine(Message& message) {
  if (!message.has_affine()) {
    message.set_affine(true);
  }
}

// What layer, group, instance and RMS norm have.
template <typename Message>
void ResolveExampleNorm(Message& message) {
  ResolveEpsilon(message);
  ResolveAffine(message);
}

// What the batch family has.
template <typename Message>
void ResolveBatchNorm(Message& message) {
  ResolveEpsilon(message);
  ResolveRate(message);
  ResolveAffine(message);
}

void ResolveNoise(v1::NoisyBatchNorm& noisy) {
  ResolveBatchNorm(noisy);
  if (!noisy.has_mean_range()) {
    noisy.set_mean_range(0.5);
  }
  if (!noisy.has_deviation_range()) {
    noisy.set_deviation_range(1.25);
  }
  if (!noisy.has_mean_jitter()) {
    noisy.set_mean_jitter(0.1);
  }
  if (!noisy.has_deviation_jitter()) {
    noisy.set_deviation_jitter(0.1);
  }
  if (!noisy.has_normalize()) {
    noisy.set_normalize(true);
  }
}

void ResolveRenorm(v1::BatchRenorm& renorm) {
  ResolveBatchNorm(renorm);
  if (!renorm.has_r_max()) {
    renorm.set_r_max(3);
  }
  if (!renorm.has_d_max()) {
    renorm.set_d_max(5);
  }
}

void ResolveGhost(v1::GhostBatchNorm& ghost, int64_t batch_size) {
  ResolveBatchNorm(ghost);
  if (!ghost.has_ghost_size()) {
    ghost.set_ghost_size(static_cast<int32_t>(std::min(kDefaultGhostSize, batch_size)));
  }
}

void ResolveWeightStandardization(v1::WeightStandardization& standardization) {
  ResolveExampleNorm(standardization);
  if (!standardization.has_group_norm()) {
    standardization.set_group_norm(true);
  }
}

}  // namespace

bool HasPlacement(const v1::Normalizer& normalizer) {
  switch (normalizer.kind_case()) {
    case v1::Normalizer::KIND_NOT_SET:
    case v1::Normalizer::kNone:
    case v1::Normalizer::kWeight:
    case v1::Normalizer::kFilterResponse:
    case v1::Normalizer::kFixup:
    case v1::Normalizer::kSkipInit:
      return false;
    case v1::Normalizer::kWeightStandardization:
      return normalizer.weight_standardization().group_norm();
    default:
      return true;
  }
}

void ResolveNormalizer(v1::Normalizer& normalizer, int64_t batch_size) {
  switch (normalizer.kind_case()) {
    case v1::Normalizer::KIND_NOT_SET:
      normalizer.mutable_none();
      break;
    case v1::Normalizer::kBatch:
      ResolveBatchNorm(*normalizer.mutable_batch());
      break;
    case v1::Normalizer::kNoisyBatch:
      ResolveNoise(*normalizer.mutable_noisy_batch());
      break;
    case v1::Normalizer::kLayer:
      ResolveExampleNorm(*normalizer.mutable_layer());
      break;
    case v1::Normalizer::kGroup:
      ResolveExampleNorm(*normalizer.mutable_group());
      break;
    case v1::Normalizer::kInstance:
      ResolveExampleNorm(*normalizer.mutable_instance());
      break;
    case v1::Normalizer::kWeight:
      if (!normalizer.weight().has_data_dependent_init()) {
        normalizer.mutable_weight()->set_data_dependent_init(true);
      }
      break;
    case v1::Normalizer::kRms:
      ResolveExampleNorm(*normalizer.mutable_rms());
      break;
    case v1::Normalizer::kWeightStandardization:
      ResolveWeightStandardization(*normalizer.mutable_weight_standardization());
      break;
    case v1::Normalizer::kBatchRenorm:
      ResolveRenorm(*normalizer.mutable_batch_renorm());
      break;
    case v1::Normalizer::kGhostBatch:
      ResolveGhost(*normalizer.mutable_ghost_batch(), batch_size);
      break;
    case v1::Normalizer::kL1Batch:
      ResolveBatchNorm(*normalizer.mutable_l1_batch());
      break;
    case v1::Normalizer::kL2Batch:
      ResolveBatchNorm(*normalizer.mutable_l2_batch());
      break;
    case v1::Normalizer::kLinfBatch:
      ResolveBatchNorm(*normalizer.mutable_linf_batch());
      break;
    case v1::Normalizer::kFilterResponse:
      ResolveEpsilon(*normalizer.mutable_filter_response(), 1e-6);
      break;
    case v1::Normalizer::kDyt:
      if (!normalizer.dyt().has_initial_alpha()) {
        normalizer.mutable_dyt()->set_initial_alpha(0.5);
      }
      ResolveAffine(*normalizer.mutable_dyt());
      break;
    case v1::Normalizer::kMeanOnlyBatch:
      ResolveRate(*normalizer.mutable_mean_only_batch());
      ResolveAffine(*normalizer.mutable_mean_only_batch());
      break;
    case v1::Normalizer::kFrozenBatch:
      ResolveExampleNorm(*normalizer.mutable_frozen_batch());
      break;
    case v1::Normalizer::kNone:
    case v1::Normalizer::kFixup:
    case v1::Normalizer::kSkipInit:
      break;
  }
  if (HasPlacement(normalizer) && normalizer.placement() == v1::Placement::KIND_UNSPECIFIED) {
    normalizer.set_placement(v1::Placement::BEFORE_ACTIVATION);
  }
}

}  // namespace normlab::engine
