#pragma once

#include <memory>
#include <optional>

#include "engine/graph/graph.h"
#include "engine/layers/layer.h"
#include "engine/layers/normalization/channel_normalizer.h"

namespace normlab::engine {

// What a ChannelNormalizerLayer normalizes, and how.
struct ChannelNormalization {
  enum class Sets {
    kBatch,   // a channel over the batch, or parts of `ghost_size` examples; has running statistics
    kGroups,  // `groups` groups of channels of an example
  };
  NormalizerFormula formula;
  Sets sets = Sets::kBatch;
  int64_t groups = 1;
  std::optional<int64_t> ghost_size;
  double running_update_rate = 0.1;
  std::optional<CorrectionLimits> renorm;
  bool frozen = false;     // running statistics in training too
  bool threshold = false;  // the learned threshold of filter response norm follows
  bool one_value_is_fine = false;
};

// A ChannelNormalizer as a layer: in any layout of blocks of channels, a ReLU that follows in the
// same pass (but not after l_1).
class ChannelNormalizerLayer final : public Layer {
 public:
  ChannelNormalizerLayer(const Node& node,
                         const ChannelNormalization& norm,
                         std::optional<ActivationKind> fusible,
                         const LayerParameters& parameters);

  // INVALID_ARGUMENT: a set has one value (in evaluation with running statistics it may), the ghost
  // size does not divide the batch, or ghost batches are to be synchronized.
  absl::StatusOr<View> PlanForward(Planner& planner, absl::Span<const View> inputs) override;
  bool fused() const override { return options_.floor == OutputFloor::kZero; }
  absl::StatusOr<View> PlanBackward(Planner& planner, const View& d_y, bool wants_d_x) override;
  void Forward() override;
  void Backward() override;

 private:
  absl::Status CheckSets(const Planner& planner) const;
  ChannelNormalizerOptions OptionsFor(const Planner& planner) const;

  const ChannelNormalization norm_;
  const int64_t channels_;
  const int64_t area_;
  const bool fuse_relu_;
  const LayerParameters parameters_;

  ChannelNormalizerOptions options_;
  std::unique_ptr<ChannelNormalizer> normalizer_;
  RunState* run_ = nullptr;
  View x_;
  View y_;
  View d_y_;
  View d_x_;
  Buffer* forward_scratch_ = nullptr;
  Buffer* backward_scratch_ = nullptr;
  OpList forward_;
  OpList backward_;
};

}  // namespace normlab::engine
