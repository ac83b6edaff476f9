#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/types/span.h"

namespace normlab::engine {

// Sizes and memory layout of a tensor of floats (a workspace: of bytes), batch dimension included.
// An immutable value.
//
// Thread-safe. Cheap to copy.
class Layout {
 public:
  // No tensor: zero bytes, no dimensions.
  Layout();

  // Last dimension contiguous: [N,D], [N,C,H,W], [O,I], [O,I,KH,KW]. 1 to 6 dimensions.
  static Layout RowMajor(absl::Span<const int64_t> dims);
  // [N,C,H,W] with the channels contiguous.
  static Layout ChannelsLast(absl::Span<const int64_t> dims);
  // The primitive shall choose; never the layout of actual memory.
  static Layout Any(absl::Span<const int64_t> dims);

  std::vector<int64_t> dims() const;
  // Memory needed, padding included.
  int64_t bytes() const;
  bool empty() const { return bytes() == 0; }
  bool is_row_major() const;
  // For messages and records: "60x100", "8x16x5x5 blocked".
  std::string ToString() const;

  friend bool operator==(const Layout& a, const Layout& b);
  friend bool operator!=(const Layout& a, const Layout& b) { return !(a == b); }

  // Inside engine/dnnl only.
  struct Impl;
  explicit Layout(Impl impl);
  const Impl& impl() const { return *impl_; }

 private:
  std::shared_ptr<const Impl> impl_;
};

}  // namespace normlab::engine
