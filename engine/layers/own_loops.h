#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "engine/layers/plan.h"

namespace normlab::engine {

// `x` as loops of our own can read it, in F32 and in an order that ChannelBlocking describes: as it
// is, or a copy whose reorder is added to `ops`. [N,D] or [N,C,H,W].
inline absl::StatusOr<View> PlanForOwnLoops(Planner& planner,
                                            absl::string_view layer,
                                            const View& x,
                                            OpList& ops) {
  const Layout layout = x.layout.channel_blocking().has_value() ? x.layout.WithType(DataType::kF32)
                                                                : Layout::RowMajor(x.layout.dims());
  return planner.Convert(layer, x, layout, ops);
}

// Where element (n, c, p) lies, p the pixel in row-major order.
inline int64_t Place(const ChannelBlocking& blocking, int64_t n, int64_t c, int64_t p) {
  const int64_t block = c / blocking.block;
  return ((n * blocking.blocks() + block) * blocking.area + p) * blocking.block +
         c % blocking.block;
}

}  // namespace normlab::engine
