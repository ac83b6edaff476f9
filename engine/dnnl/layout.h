#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/types/span.h"

#include "engine/dnnl/data_type.h"

namespace normlab::engine {

// Activations as loops of our own see them: element (n, c, p), with p the pixel in row-major order,
// lies at ((n * blocks() + c / block) * area + p) * block + c % block. Only the channels are padded
// (to whole blocks, with zeros).
struct ChannelBlocking {
  int64_t batch = 0;
  int64_t channels = 0;
  int64_t area = 0;   // pixels of one image; 1 for [N,D]
  int64_t block = 0;  // channels that lie side by side: 1 for nchw, all of them for nhwc and [N,D]

  int64_t blocks() const { return (channels + block - 1) / block; }

  friend bool operator==(const ChannelBlocking& a, const ChannelBlocking& b) = default;
};

// Sizes, element type and memory layout of a tensor (a workspace: of bytes), batch dimension
// included. An immutable value.
//
// Thread-safe. Cheap to copy.
class Layout {
 public:
  // No tensor: zero bytes, no dimensions.
  Layout();

  // Last dimension contiguous: [N,D], [N,C,H,W], [O,I], [O,I,KH,KW], [G,O/G,I/G,KH,KW]. 1 to 6
  // dimensions.
  static Layout RowMajor(absl::Span<const int64_t> dims, DataType type = DataType::kF32);
  // [N,C,H,W] with the channels contiguous.
  static Layout ChannelsLast(absl::Span<const int64_t> dims, DataType type = DataType::kF32);
  // The primitive shall choose; never the layout of actual memory.
  static Layout Any(absl::Span<const int64_t> dims, DataType type = DataType::kF32);

  std::vector<int64_t> dims() const;
  // Of tensors only; a workspace or scratchpad of bytes says kF32.
  DataType type() const;
  // The same sizes and order of another type: what a type-converting reorder goes to without moving
  // elements. Empty for orders that the library does not disclose (weights of Winograd
  // convolutions).
  Layout WithType(DataType type) const;
  // Memory needed, padding included.
  int64_t bytes() const;
  // Elements in memory, padding included.
  int64_t element_count() const { return bytes() / BytesPerElement(type()); }
  bool empty() const { return bytes() == 0; }
  bool is_row_major() const;
  // How channels are blocked in activations [N,D] or [N,C,H,W]; nullopt for any other rank or order
  // in memory. Where orders coincide, as on 1x1 images, the largest block that describes the memory.
  std::optional<ChannelBlocking> channel_blocking() const;
  // For messages and records: "60x100", "8x16x5x5 channels last", "8x16x5x5 bf16 blocked".
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
