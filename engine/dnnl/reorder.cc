#include "engine/dnnl/factory.h"

namespace normlab::engine {

absl::StatusOr<Op> MakeReorder(const Runtime& runtime, const Layout& from, const Layout& to) {
  return Build(runtime, "a reorder", [&](const describe::Context& context) {
    const dnnl::reorder::primitive_desc description(context.engine, D(from), context.engine, D(to),
                                                    context.attributes);
    return Finish<dnnl::reorder>(runtime, description,
                                 {{Arg::kSource, D(from)}, {Arg::kDestination, D(to)}});
  });
}

}  // namespace normlab::engine
