#include "engine/models/normalizer_node.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

namespace normlab::engine {
namespace {

constexpr double kDefaultEpsilon = 1e-5;
constexpr double kDefaultRunningUpdateRate = 0.1;

template <typename Message>
double EpsilonOf(const Message& message, double otherwise = kDefaultEpsilon) {
  return message.has_epsilon() ? message.epsilon() : otherwise;
}

template <typename Message>
bool AffineOf(const Message& message) {
  return message.has_affine() ? message.affine() : true;
}

template <typename Message>
double RateOf(const Message& message) {
  return message.has_running_update_rate() ? message.running_update_rate()
                                           : kDefaultRunningUpdateRate;
}

// The settings that every kind of batch norm has.
template <typename Message>
BatchNormNode BatchOf(const Message& message) {
  return {.epsilon = EpsilonOf(message),
          .running_update_rate = RateOf(message),
          .affine = AffineOf(message)};
}

NodeKind NoisyBatch(const v1::NoisyBatchNorm& message) {
  NoisyBatchNormNode node;
  node.batch = BatchOf(message);
  node.normalize = message.has_normalize() ? message.normalize() : node.normalize;
  node.mean_range = message.has_mean_range() ? message.mean_range() : node.mean_range;
  node.deviation_range =
      message.has_deviation_range() ? message.deviation_range() : node.deviation_range;
  node.mean_jitter = message.has_mean_jitter() ? message.mean_jitter() : node.mean_jitter;
  node.deviation_jitter =
      message.has_deviation_jitter() ? message.deviation_jitter() : node.deviation_jitter;
  return node;
}

NodeKind Renorm(const v1::BatchRenorm& message) {
  BatchRenormNode node;
  node.batch = BatchOf(message);
  node.r_max = message.has_r_max() ? message.r_max() : node.r_max;
  node.d_max = message.has_d_max() ? message.d_max() : node.d_max;
  return node;
}

absl::StatusOr<NodeKind> Ghost(const v1::GhostBatchNorm& message, int64_t batch) {
  constexpr int64_t kDefaultSize = 32;
  const int64_t size =
      message.has_ghost_size() ? int64_t{message.ghost_size()} : std::min(kDefaultSize, batch);
  if (size < 1 || batch % size != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("parts of ", size, " examples do not divide a batch of ", batch,
                     "; give a ghost_size that does, or another batch"));
  }
  return NodeKind(GhostBatchNormNode{.batch = BatchOf(message), .size = size});
}

NodeKind Lp(const v1::LpBatchNorm& message, LpBatchNormNode::Power power) {
  return LpBatchNormNode{.power = power, .batch = BatchOf(message)};
}

}  // namespace

int64_t DefaultGroups(int64_t channels, int64_t area) {
  constexpr int64_t kMostGroups = 32;  // Wu and He's
  constexpr int64_t kFewestChannels = 2;
  constexpr int64_t kFewestValues = 8;
  for (int64_t groups = std::min(kMostGroups, channels); groups > 1; --groups) {
    const int64_t size = channels / groups;
    if (channels % groups == 0 && size >= kFewestChannels && size * area >= kFewestValues) {
      return groups;
    }
  }
  return 1;
}

absl::StatusOr<LoneNormalizer> MakeLoneNormalizer(const v1::Normalizer& normalizer,
                                                  const Dims& in,
                                                  int64_t batch) {
  const int64_t channels = in.front();
  const int64_t area = ElementCount(in) / channels;
  const auto layer = [](NodeKind kind) { return LoneNormalizer{.node = std::move(kind)}; };
  const auto group = [&](const auto& message, int64_t groups) {
    return layer(GroupNormNode{
        .groups = groups, .epsilon = EpsilonOf(message), .affine = AffineOf(message)});
  };
  switch (normalizer.kind_case()) {
    case v1::Normalizer::kNone:
    case v1::Normalizer::KIND_NOT_SET:
      return LoneNormalizer{};
    case v1::Normalizer::kBatch:
      return layer(BatchOf(normalizer.batch()));
    case v1::Normalizer::kNoisyBatch:
      return layer(NoisyBatch(normalizer.noisy_batch()));
    case v1::Normalizer::kLayer:
      return group(normalizer.layer(), 1);
    case v1::Normalizer::kGroup:
      return group(normalizer.group(), normalizer.group().has_groups()
                                           ? int64_t{normalizer.group().groups()}
                                           : DefaultGroups(channels, area));
    case v1::Normalizer::kInstance:
      return group(normalizer.instance(), channels);
    case v1::Normalizer::kRms:
      return layer(RmsNormNode{.epsilon = EpsilonOf(normalizer.rms()),
                               .affine = AffineOf(normalizer.rms())});
    case v1::Normalizer::kBatchRenorm:
      return layer(Renorm(normalizer.batch_renorm()));
    case v1::Normalizer::kGhostBatch: {
      absl::StatusOr<NodeKind> node = Ghost(normalizer.ghost_batch(), batch);
      if (!node.ok()) {
        return node.status();
      }
      return layer(*std::move(node));
    }
    case v1::Normalizer::kL1Batch:
      return layer(Lp(normalizer.l1_batch(), LpBatchNormNode::Power::kOne));
    case v1::Normalizer::kL2Batch:
      return layer(Lp(normalizer.l2_batch(), LpBatchNormNode::Power::kTwo));
    case v1::Normalizer::kLinfBatch:
      return layer(Lp(normalizer.linf_batch(), LpBatchNormNode::Power::kInfinity));
    case v1::Normalizer::kFilterResponse: {
      constexpr double kDefault = 1e-6;  // Singh and Krishnan's
      return layer(
          FilterResponseNode{.epsilon = EpsilonOf(normalizer.filter_response(), kDefault)});
    }
    case v1::Normalizer::kDyt: {
      DynamicTanhNode node{.affine = AffineOf(normalizer.dyt())};
      if (normalizer.dyt().has_initial_alpha()) {
        node.initial_alpha = normalizer.dyt().initial_alpha();
      }
      return layer(node);
    }
    case v1::Normalizer::kMeanOnlyBatch:
      return layer(
          MeanOnlyBatchNormNode{.running_update_rate = RateOf(normalizer.mean_only_batch()),
                                .affine = AffineOf(normalizer.mean_only_batch())});
    case v1::Normalizer::kFrozenBatch:
      return layer(FrozenBatchNormNode{.batch = {.epsilon = EpsilonOf(normalizer.frozen_batch()),
                                                 .affine = AffineOf(normalizer.frozen_batch())}});
    case v1::Normalizer::kWeight:
      return LoneNormalizer{.transform = WeightTransform::kWeightNorm};
    case v1::Normalizer::kWeightStandardization:
      return LoneNormalizer{.transform = WeightTransform::kStandardization};
    case v1::Normalizer::kFixup:
    case v1::Normalizer::kSkipInit:
      break;
  }
  return absl::InvalidArgumentError(
      "is a way to build a residual network, and does nothing to a tensor by itself; submit a job "
      "with a resnet model to try it");
}

std::string NormalizerName(const v1::Normalizer& normalizer) {
  const auto* kind = normalizer.GetReflection()->GetOneofFieldDescriptor(
      normalizer, normalizer.GetDescriptor()->FindOneofByName("kind"));
  return kind == nullptr ? "none" : kind->name();
}

}  // namespace normlab::engine
