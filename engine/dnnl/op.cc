#include "engine/dnnl/op.h"

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"

#include "engine/dnnl/internal.h"

namespace normlab::engine {

int ArgumentCode(Arg arg) {
  switch (arg) {
    case Arg::kSource:
      return DNNL_ARG_SRC;
    case Arg::kSource1:
      return DNNL_ARG_SRC_1;
    case Arg::kWeights:
      return DNNL_ARG_WEIGHTS;
    case Arg::kBias:
      return DNNL_ARG_BIAS;
    case Arg::kDestination:
      return DNNL_ARG_DST;
    case Arg::kMean:
      return DNNL_ARG_MEAN;
    case Arg::kVariance:
      return DNNL_ARG_VARIANCE;
    case Arg::kScale:
      return DNNL_ARG_SCALE;
    case Arg::kShift:
      return DNNL_ARG_SHIFT;
    case Arg::kWorkspace:
      return DNNL_ARG_WORKSPACE;
    case Arg::kDiffSource:
      return DNNL_ARG_DIFF_SRC;
    case Arg::kDiffWeights:
      return DNNL_ARG_DIFF_WEIGHTS;
    case Arg::kDiffBias:
      return DNNL_ARG_DIFF_BIAS;
    case Arg::kDiffDestination:
      return DNNL_ARG_DIFF_DST;
    case Arg::kDiffScale:
      return DNNL_ARG_DIFF_SCALE;
    case Arg::kDiffShift:
      return DNNL_ARG_DIFF_SHIFT;
    case Arg::kScratchpad:
      return DNNL_ARG_SCRATCHPAD;
  }
  return 0;
}

Op::Op(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Op::Op(Op&& other) noexcept = default;
Op& Op::operator=(Op&& other) noexcept = default;
Op::~Op() = default;

Layout Op::layout(Arg arg) const {
  for (const Impl::Slot& slot : impl_->slots) {
    if (slot.arg == arg) {
      return Layout(Layout::Impl{slot.desc});
    }
  }
  return Layout();
}

const std::string& Op::implementation() const {
  return impl_->implementation;
}

absl::Status Op::Bind(Arg arg, const Buffer* buffer) {
  for (Impl::Slot& slot : impl_->slots) {
    if (slot.arg != arg) {
      continue;
    }
    const auto needed = static_cast<int64_t>(slot.desc.get_size());
    if (buffer == nullptr || buffer->bytes < needed) {
      return absl::InternalError(
          absl::StrCat("argument ", ArgumentCode(arg), " of ", impl_->implementation, " needs ",
                       needed, " bytes but got a buffer of ", buffer == nullptr ? 0 : buffer->bytes,
                       "; report this with the job's spec"));
    }
    slot.buffer = buffer;
  }
  return absl::OkStatus();
}

absl::Status Op::Connect() {
  return Guarded(impl_->implementation, [this]() -> absl::Status {
    impl_->arguments.clear();
    for (Impl::Slot& slot : impl_->slots) {
      if (slot.buffer == nullptr || slot.buffer->data == nullptr) {
        return absl::InternalError(absl::StrCat("argument ", ArgumentCode(slot.arg), " of ",
                                                impl_->implementation,
                                                " has no memory; report this with the job's spec"));
      }
      slot.memory = dnnl::memory(slot.desc, impl_->runtime->engine, slot.buffer->data);
      impl_->arguments.push_back({ArgumentCode(slot.arg), slot.memory.get()});
    }
    return absl::OkStatus();
  });
}

void Op::Run() const {
  // The C function: the C++ one builds a map and a vector on every call.
  const dnnl_status_t status =
      dnnl_primitive_execute(impl_->primitive.get(), impl_->runtime->stream.get(),
                             static_cast<int>(impl_->arguments.size()), impl_->arguments.data());
  if (status != dnnl_success) {
    std::fprintf(stderr,
                 "oneDNN could not execute %s (status %d); report this with the job's spec\n",
                 impl_->implementation.c_str(), static_cast<int>(status));
    std::abort();
  }
}

}  // namespace normlab::engine
