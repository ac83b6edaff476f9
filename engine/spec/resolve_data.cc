#include "engine/spec/resolve_parts.h"

namespace normlab::engine {

void ResolveData(v1::Data& data) {
  if (data.has_fashion_mnist() && data.fashion_mnist().path().empty()) {
    data.mutable_fashion_mnist()->set_path("fashion-mnist");
  }
  if (data.has_mnist() && data.mnist().path().empty()) {
    data.mutable_mnist()->set_path("mnist");
  }
  if (data.scaling() == v1::Scaling::KIND_UNSPECIFIED) {
    data.set_scaling(v1::Scaling::STANDARDIZE);
  }
  if (data.last_batch() == v1::LastBatch::KIND_UNSPECIFIED) {
    data.set_last_batch(v1::LastBatch::DROP);
  }
  if (!data.has_shuffle()) {
    data.set_shuffle(true);
  }
}

}  // namespace normlab::engine
