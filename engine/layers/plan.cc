#include "engine/layers/plan.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "engine/dnnl/primitives.h"

namespace normlab::engine {

namespace {

// Whether both describe the same elements at the same places, as channels in blocks do on 1x1
// images.
bool SameMemory(const Layout& a, const Layout& b) {
  if (a == b) {
    return true;
  }
  if (a.type() != b.type() || a.bytes() != b.bytes() || a.dims() != b.dims()) {
    return false;
  }
  const std::optional<ChannelBlocking> in_a = a.channel_blocking();
  const std::optional<ChannelBlocking> in_b = b.channel_blocking();
  return in_a.has_value() && in_b.has_value() && in_a->area == 1 &&
         in_a->channels % in_a->block == 0 && in_b->channels % in_b->block == 0;
}

}  // namespace

absl::StatusOr<Op*> Planner::Adopt(absl::string_view layer,
                                   absl::string_view pass,
                                   absl::StatusOr<Op> op,
                                   When when,
                                   absl::string_view around) {
  if (!op.ok()) {
    return absl::Status(op.status().code(),
                        absl::StrCat("layer ", layer, " (", pass, "): ", op.status().message()));
  }
  Op* adopted = &ops_.emplace_back(*std::move(op));
  if (adopted->has(Arg::kScratchpad)) {
    const int64_t bytes = adopted->layout(Arg::kScratchpad).bytes();
    NORMLAB_RETURN_IF_ERROR(Bind(*adopted, Arg::kScratchpad,
                                 when == When::kThisTick ? Reserve(bytes) : AnyTimeScratch(bytes)));
  }
  Record(layer, pass, absl::StrCat(around, adopted->implementation()));
  return adopted;
}

Buffer* Planner::AnyTimeScratch(int64_t bytes) {
  if (any_time_scratch_ == nullptr) {
    any_time_scratch_ = ReserveKept(bytes);
  }
  any_time_scratch_->bytes =
      std::max(any_time_scratch_->bytes,
               (bytes + kTensorAlignment - 1) / kTensorAlignment * kTensorAlignment);
  return any_time_scratch_;
}

void Planner::Record(absl::string_view layer,
                     absl::string_view pass,
                     absl::string_view implementation) {
  choices_.push_back({std::string(layer), std::string(pass), std::string(implementation)});
}

absl::StatusOr<View> Planner::Convert(absl::string_view layer,
                                      const View& from,
                                      const Layout& layout,
                                      OpList& ops) {
  if (SameMemory(from.layout, layout)) {
    Use(from);
    View same = from;
    same.layout = layout;
    return same;
  }
  View to = Reserve(layout);
  to.nan_checked = from.nan_checked;
  NORMLAB_RETURN_IF_ERROR(ConvertInto(layer, from, to, ops));
  return to;
}

absl::Status Planner::ConvertInto(absl::string_view layer,
                                  const View& from,
                                  const View& to,
                                  OpList& ops,
                                  absl::string_view pass,
                                  When when) {
  NORMLAB_ASSIGN_OR_RETURN(Op * reorder,
                           Adopt(layer, pass, MakeReorder(runtime_, from.layout, to.layout), when));
  NORMLAB_RETURN_IF_ERROR(Bind(*reorder, Arg::kSource, from.buffer));
  NORMLAB_RETURN_IF_ERROR(Bind(*reorder, Arg::kDestination, to.buffer));
  ops.push_back(reorder);
  return absl::OkStatus();
}

absl::Status Planner::Finish() {
  NORMLAB_RETURN_IF_ERROR(buffers_.Allocate());
  for (Op& op : ops_) {
    NORMLAB_RETURN_IF_ERROR(op.Connect());
  }
  return absl::OkStatus();
}

}  // namespace normlab::engine
