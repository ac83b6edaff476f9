#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"

#include "engine/graph/graph.h"

#include "normlab/v1/spec.pb.h"

namespace normlab::engine {

// What a normalizer consists of apart from any network: a layer that acts on activations, a
// transformation of weights, or (`none`) neither.
struct LoneNormalizer {
  std::optional<NodeKind> node;
  WeightTransform transform = WeightTransform::kNone;
};

// The normalizer as it acts on activations whose examples have the shape `in` ([D] or [C, H, W]), in
// batches of `batch`; resolved or not. Without `batch_statistics` (evaluation) parts of the batch have
// no meaning, and any ghost size will do. Of `weight` and `weight_standardization` only what
// they do to weights, without the normalizer that follows. `placement` is not read.
//
// INVALID_ARGUMENT: a ghost size that does not divide the batch; fixup and skip_init, which are
// properties of a residual network. Other settings are checked by Validate. Pure; thread-safe.
absl::StatusOr<LoneNormalizer> MakeLoneNormalizer(const v1::Normalizer& normalizer,
                                                  const Dims& in,
                                                  int64_t batch,
                                                  bool batch_statistics = true);

// Name of the chosen kind, as in a spec: "batch"; "none" when nothing is chosen. Thread-safe.
std::string NormalizerName(const v1::Normalizer& normalizer);

}  // namespace normlab::engine
