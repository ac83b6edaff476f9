#include "engine/probes/activation_statistics.h"

#include <new>

#include "absl/strings/str_cat.h"

namespace normlab::engine {
namespace {

// Of the fixed batch.
constexpr int kFixedBatch = 0;

}  // namespace

ActivationStatisticsProbe::ActivationStatisticsProbe(ProbeWorkspace& workspace,
                                                     std::vector<WeightLayer> layers,
                                                     uint32_t seed)
    : workspace_(workspace), seed_(seed) {
  for (const WeightLayer& layer : layers) {
    AddItem(layer, Quantity::kPre, layer.name);
    if (!layer.normalizer.empty()) {
      AddItem(layer, Quantity::kPost, layer.normalizer);
    }
    if (!layer.activation.empty()) {
      AddItem(layer, Quantity::kDead, layer.activation);
      AddItem(layer, Quantity::kShift, layer.activation_input);
    }
  }
}

void ActivationStatisticsProbe::AddItem(const WeightLayer& layer,
                                        Quantity quantity,
                                        const std::string& node) {
  items_.push_back(
      {.quantity = quantity, .node = node, .first = series_.size(), .before_update = {}});
  const std::string prefix = absl::StrCat("layers/", layer.name, "/");
  switch (quantity) {
    case Quantity::kPre:
    case Quantity::kPost:
      for (const char* const name : {"mean", "variance", "effective_rank", "soft_rank"}) {
        series_.push_back(
            absl::StrCat(prefix, quantity == Quantity::kPre ? "pre_" : "post_", name));
      }
      break;
    case Quantity::kDead:
      series_.push_back(absl::StrCat(prefix, "dead_fraction"));
      break;
    case Quantity::kShift:
      series_.push_back(absl::StrCat(prefix, "activation_shift"));
      break;
  }
}

template <typename Take>
void ActivationStatisticsProbe::WithOutput(const Network& network,
                                           const std::string& node,
                                           const Take& take) const {
  const auto output = network.ReadOutput(node);
  if (!output.ok()) {
    throw std::
        bad_alloc();  // nothing else can be wrong with a node of the graph in an unfused plan
  }
  const Dims& dims = workspace_.graph().Find(node)->out;
  take(FeatureBatch{.batch = static_cast<int64_t>(output->size()) / ElementCount(dims),
                    .dims = dims,
                    .values = *output});
}

void ActivationStatisticsProbe::BeforeUpdate(const ProbeStep& step, absl::Span<double> values) {
  workspace_.Reset();
  const Network& network = workspace_.Unfused(/*backward=*/false);
  for (const Item& item : items_) {
    if (item.quantity == Quantity::kShift) {
      continue;
    }
    WithOutput(network, item.node, [&](const FeatureBatch& features) {
      if (item.quantity == Quantity::kDead) {
        values[item.first] = DeadFraction(features);
        return;
      }
      const Moments moments = MomentsOf(features);
      const Ranks ranks = RanksOf(features, seed_);
      values[item.first] = moments.mean;
      values[item.first + 1] = moments.variance;
      values[item.first + 2] = ranks.effective;
      values[item.first + 3] = ranks.soft;
    });
  }
  const Network& fixed = workspace_.UnfusedOnFixedBatch(kFixedBatch, step.step);
  for (Item& item : items_) {
    if (item.quantity == Quantity::kShift) {
      WithOutput(fixed, item.node, [&item](const FeatureBatch& features) {
        item.before_update = ChannelMoments(features);
      });
    }
  }
}

void ActivationStatisticsProbe::AfterUpdate(const ProbeStep& step, absl::Span<double> values) {
  workspace_.Reset();
  // What noise does to the distribution belongs to the shift: the next step draws its own.
  const Network& fixed = workspace_.UnfusedOnFixedBatch(kFixedBatch, step.step + 1);
  for (const Item& item : items_) {
    if (item.quantity == Quantity::kShift) {
      WithOutput(fixed, item.node, [&](const FeatureBatch& features) {
        values[item.first] = MomentShift(item.before_update, ChannelMoments(features));
      });
    }
  }
}

}  // namespace normlab::engine
