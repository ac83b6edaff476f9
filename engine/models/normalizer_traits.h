#pragma once

#include <cstdint>
#include <optional>

#include "engine/graph/node.h"

#include "normlab/v1/spec.pb.h"

namespace normlab::engine {

// What a kind of normalizer does to the network around it.
struct NormalizerTraits {
  // Of the names of its nodes, as PyTorch users choose them: "bn" for batch norm and its relatives,
  // "gn", "ln", "in", "rms", "frn", "dyt"; "noise" for noise without batch norm. Null: it adds no
  // node (none; weight norm and weight standardization alone; fixup; skip_init).
  const char* prefix = nullptr;
  // Whether the weight layer whose output it normalizes has a bias: not before a beta, and not
  // before a mean per channel is subtracted, which would undo it.
  bool layer_has_bias = true;
  bool has_gamma = false;
  // It ends with a threshold of its own instead of the activation (filter response normalization).
  bool replaces_activation = false;
  // Of the weight layer.
  WeightOptions weights;
};

// `resolved`: from Resolve, of a valid spec. Pure; thread-safe.
NormalizerTraits TraitsOf(const v1::Normalizer& resolved);

// The node of a normalizer for activations of shape `dims`, [C] or [C,H,W], gammas starting at
// `initial_gamma`; nullopt when it has none (see NormalizerTraits::prefix). Group norm without a number
// of groups takes the largest divisor of the channels that is at most 32 and leaves at least 2
// channels and 8 values a group; else 1. Whether its groups
// divide the channels is found out when the node is added to a graph. `resolved`: from Resolve, of a
// valid spec. Pure; thread-safe.
std::optional<NodeKind> NormalizerNode(const v1::Normalizer& resolved,
                                       const Dims& dims,
                                       float initial_gamma = 1);

}  // namespace normlab::engine
