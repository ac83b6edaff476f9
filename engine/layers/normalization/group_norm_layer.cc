#include "engine/layers/normalization/group_norm_layer.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "engine/layers/normalization/channel_normalizer_layer.h"
#include "engine/layers/normalization/dnnl_group_norm.h"
#include "engine/layers/normalization/layer_support.h"
#include "engine/layers/normalization/row_normalizer_layer.h"

namespace normlab::engine {
namespace {

// A property of the layer alone, not of the batch size: so all plans of a model compute alike.
constexpr int64_t kNarrow = 256;

GroupNormNode WithPositiveEpsilon(GroupNormNode norm) {
  norm.epsilon = std::max(norm.epsilon, static_cast<double>(std::numeric_limits<float>::min()));
  return norm;
}

bool IsPlainImage(const Layout& layout) {
  const auto blocking = layout.channel_blocking();
  return !blocking.has_value() || blocking->block == 1;
}

}  // namespace

GroupNormLayer::GroupNormLayer(const Node& node,
                               const GroupNormNode& norm,
                               std::optional<ActivationKind> fusible,
                               const LayerParameters& parameters)
    : Layer(node.name),
      node_(node),
      norm_(WithPositiveEpsilon(norm)),
      fusible_(fusible),
      parameters_(parameters) {}

std::unique_ptr<Layer> GroupNormLayer::Choose(const Layout& x) const {
  const bool dense = node_.in.size() == 1;
  const NormalizerFormula formula = {.epsilon = norm_.epsilon};
  if (dense && node_.in[0] < kNarrow) {
    return std::make_unique<RowNormalizerLayer>(node_, formula, norm_.groups, fusible_,
                                                parameters_);
  }
  if (dense && norm_.groups == 1) {
    return std::make_unique<DnnlLayerNorm>(node_, norm_, parameters_);
  }
  if (dense || IsPlainImage(x)) {
    return std::make_unique<DnnlGroupNorm>(node_, norm_, parameters_);
  }
  ChannelNormalization channels;
  channels.formula = formula;
  channels.sets = ChannelNormalization::Sets::kGroups;
  channels.groups = norm_.groups;
  return std::make_unique<ChannelNormalizerLayer>(node_, channels, fusible_, parameters_);
}

absl::StatusOr<View> GroupNormLayer::PlanForward(Planner& planner, absl::Span<const View> inputs) {
  if (ElementCount(node_.in) == norm_.groups) {
    return OneValueError(name(), norm_.groups == node_.in[0] ? "instance norm" : "group norm",
                         absl::StrCat(DimsToString(node_.in), " in ", norm_.groups,
                                      " groups; use layer norm, or fewer groups"));
  }
  chosen_ = Choose(inputs[0].layout);
  return chosen_->PlanForward(planner, inputs);
}

}  // namespace normlab::engine
