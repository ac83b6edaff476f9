#include "engine/models/normalizer_node.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include "engine/models/normalizer_traits.h"
#include "engine/spec/resolve.h"

namespace normlab::engine {

absl::StatusOr<LoneNormalizer> MakeLoneNormalizer(const v1::Normalizer& normalizer,
                                                  const Dims& in,
                                                  int64_t batch,
                                                  bool batch_statistics) {
  if (normalizer.has_fixup() || normalizer.has_skip_init()) {
    return absl::InvalidArgumentError(
        "is a way to build a residual network, and does nothing to a tensor by itself; submit a "
        "job with a resnet model to try it");
  }
  const v1::Normalizer resolved = Resolve(normalizer, batch);
  if (resolved.has_ghost_batch() && batch_statistics) {
    const int64_t size = resolved.ghost_batch().ghost_size();
    if (size < 1 || batch % size != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("has parts of ", size, " examples, which do not divide the batch of ", batch,
                       "; give a ghost_size that does, or another batch"));
    }
  }
  LoneNormalizer lone;
  lone.transform = TraitsOf(resolved).weights.transform;
  if (lone.transform == WeightTransform::kNone) {
    lone.node = NormalizerNode(resolved, in);
  }
  return lone;
}

std::string NormalizerName(const v1::Normalizer& normalizer) {
  const auto* kind = normalizer.GetReflection()->GetOneofFieldDescriptor(
      normalizer, normalizer.GetDescriptor()->FindOneofByName("kind"));
  return kind == nullptr ? "none" : kind->name();
}

}  // namespace normlab::engine
