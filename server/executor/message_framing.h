#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace normlab::server {

// How messages travel on the helper's socket: a little-endian uint32 with the length, then so many
// bytes.
// The largest is the answer to a Normalize of the largest tensors, at most eight of 16 MiB (output, input
// gradient, and vectors of parameters that are as long when every example has one value per channel).
inline constexpr size_t kMaxFrameBytes = size_t{160} << 20;

// Appends one frame to `out`. The message has at most kMaxFrameBytes.
void AppendFrame(absl::string_view message, std::string& out);

// Cuts a byte stream into frames. Not thread-safe.
class FrameReader {
 public:
  void Append(absl::string_view bytes) { buffer_.append(bytes.data(), bytes.size()); }
  // The next whole message; nothing when more bytes are needed. DATA_LOSS: a length beyond
  // kMaxFrameBytes; the stream is useless from there on.
  absl::StatusOr<std::optional<std::string>> Next();

 private:
  std::string buffer_;
  size_t start_ = 0;  // of what Next has not returned yet
};

}  // namespace normlab::server
