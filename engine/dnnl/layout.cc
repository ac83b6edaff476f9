#include "engine/dnnl/layout.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "engine/dnnl/descriptions.h"
#include "engine/dnnl/internal.h"

namespace normlab::engine {
namespace {

using Desc = dnnl::memory::desc;
using Tag = dnnl::memory::format_tag;

Layout Make(absl::Span<const int64_t> dims, DataType type, Tag tag) {
  return Layout(Layout::Impl{
      Desc(dnnl::memory::dims(dims.begin(), dims.end()), describe::ToDnnl(type), tag)});
}

// Whether strides are the ones wanted; the stride of an axis of size 1 says nothing.
bool StridesAre(const std::vector<int64_t>& wanted,
                const std::vector<int64_t>& sizes,
                const std::vector<int64_t>& strides) {
  for (size_t axis = 0; axis < sizes.size(); ++axis) {
    if (sizes[axis] != 1 && strides[axis] != wanted[axis]) {
      return false;
    }
  }
  return true;
}

// Strides of [N, blocks, H, W] (or [N, blocks]) as ChannelBlocking describes it.
std::vector<int64_t> StridesOf(const ChannelBlocking& blocking, const std::vector<int64_t>& dims) {
  std::vector<int64_t> strides = {blocking.blocks() * blocking.area * blocking.block,
                                  blocking.area * blocking.block};
  if (dims.size() == 4) {
    strides.push_back(dims[3] * blocking.block);
    strides.push_back(blocking.block);
  }
  return strides;
}

}  // namespace

Layout::Layout() : impl_(std::make_shared<const Impl>()) {}

Layout::Layout(Impl impl) : impl_(std::make_shared<const Impl>(std::move(impl))) {}

Layout Layout::RowMajor(absl::Span<const int64_t> dims, DataType type) {
  constexpr Tag kTags[] = {Tag::a, Tag::ab, Tag::abc, Tag::abcd, Tag::abcde, Tag::abcdef};
  return Make(dims, type, kTags[dims.size() - 1]);
}

Layout Layout::ChannelsLast(absl::Span<const int64_t> dims, DataType type) {
  return Make(dims, type, Tag::acdb);
}

Layout Layout::Any(absl::Span<const int64_t> dims, DataType type) {
  return Make(dims, type, Tag::any);
}

std::vector<int64_t> Layout::dims() const {
  return describe::Dims(impl_->desc);
}

DataType Layout::type() const {
  return describe::Type(impl_->desc) == dnnl::memory::data_type::bf16 ? DataType::kBf16
                                                                      : DataType::kF32;
}

Layout Layout::WithType(DataType type) const {
  if (type == this->type()) {
    return *this;
  }
  return Layout(Impl{describe::WithType(impl_->desc, describe::ToDnnl(type))});
}

int64_t Layout::bytes() const {
  return static_cast<int64_t>(impl_->desc.get_size());
}

bool Layout::is_row_major() const {
  return !empty() && *this == RowMajor(dims(), type());
}

std::optional<ChannelBlocking> Layout::channel_blocking() const {
  const std::optional<describe::Blocking> memory = describe::BlockingOf(impl_->desc);
  if (!memory.has_value()) {
    return std::nullopt;
  }
  const std::vector<int64_t>& sizes = memory->dims;
  if (sizes.size() != 2 && sizes.size() != 4) {
    return std::nullopt;
  }
  ChannelBlocking blocking;
  blocking.batch = sizes[0];
  blocking.channels = sizes[1];
  blocking.area = sizes.size() == 4 ? sizes[2] * sizes[3] : 1;
  std::vector<int64_t> candidates = {sizes[1], 1};
  if (!memory->inner_blocks.empty()) {
    if (memory->inner_blocks.size() != 1 || memory->inner_axes[0] != 1) {
      return std::nullopt;
    }
    candidates = {memory->inner_blocks[0]};
  }
  for (const int64_t block : candidates) {
    blocking.block = block;
    std::vector<int64_t> outer = sizes;
    outer[1] = blocking.blocks();
    std::vector<int64_t> padded = sizes;
    padded[1] = blocking.blocks() * block;
    if (memory->padded_dims == padded &&
        StridesAre(StridesOf(blocking, sizes), outer, memory->strides)) {
      return blocking;
    }
  }
  return std::nullopt;
}

std::string Layout::ToString() const {
  if (empty()) {
    return "none";
  }
  const std::vector<int64_t> sizes = dims();
  const char* order = is_row_major()                                              ? ""
                      : sizes.size() == 4 && *this == ChannelsLast(sizes, type()) ? " channels last"
                                                                                  : " blocked";
  return absl::StrCat(absl::StrJoin(sizes, "x"), type() == DataType::kBf16 ? " bf16" : "", order);
}

bool operator==(const Layout& a, const Layout& b) {
  return a.impl_ == b.impl_ || a.impl_->desc == b.impl_->desc;
}

}  // namespace normlab::engine
