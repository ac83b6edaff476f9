#include "engine/dnnl/layout.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "engine/dnnl/internal.h"

namespace normlab::engine {
namespace {

using Desc = dnnl::memory::desc;
using Tag = dnnl::memory::format_tag;

dnnl::memory::dims ToDims(absl::Span<const int64_t> dims) {
  return {dims.begin(), dims.end()};
}

Layout Make(absl::Span<const int64_t> dims, Tag tag) {
  return Layout(Layout::Impl{Desc(ToDims(dims), dnnl::memory::data_type::f32, tag)});
}

}  // namespace

Layout::Layout() : impl_(std::make_shared<const Impl>()) {}

Layout::Layout(Impl impl) : impl_(std::make_shared<const Impl>(std::move(impl))) {}

Layout Layout::RowMajor(absl::Span<const int64_t> dims) {
  constexpr Tag kTags[] = {Tag::a, Tag::ab, Tag::abc, Tag::abcd, Tag::abcde, Tag::abcdef};
  return Make(dims, kTags[dims.size() - 1]);
}

Layout Layout::ChannelsLast(absl::Span<const int64_t> dims) {
  return Make(dims, Tag::acdb);
}

Layout Layout::Any(absl::Span<const int64_t> dims) {
  return Make(dims, Tag::any);
}

std::vector<int64_t> Layout::dims() const {
  const dnnl::memory::dims dims = impl_->desc.dims();
  return {dims.begin(), dims.end()};
}

int64_t Layout::bytes() const {
  return static_cast<int64_t>(impl_->desc.get_size());
}

bool Layout::is_row_major() const {
  return !empty() && *this == RowMajor(dims());
}

std::string Layout::ToString() const {
  if (empty()) {
    return "none";
  }
  const std::vector<int64_t> sizes = dims();
  const char* order = is_row_major()                                      ? ""
                      : sizes.size() == 4 && *this == ChannelsLast(sizes) ? " channels last"
                                                                          : " blocked";
  return absl::StrCat(absl::StrJoin(sizes, "x"), order);
}

bool operator==(const Layout& a, const Layout& b) {
  return a.impl_ == b.impl_ || a.impl_->desc == b.impl_->desc;
}

}  // namespace normlab::engine
