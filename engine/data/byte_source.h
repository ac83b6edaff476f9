#pragma once

#include <zlib.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace normlab::engine {

// The bytes of a file, decompressed when they begin with gzip's magic. Stops at the first fault and
// never reads further than asked. Not thread-safe; does not own `fd`.
class ByteSource {
 public:
  // `fd` is at the start of a regular file. INTERNAL: it cannot be read.
  static absl::StatusOr<std::unique_ptr<ByteSource>> Open(int fd, std::string name);

  ~ByteSource();
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;

  // Reads up to `size` bytes; fewer only at the end of the contents. INVALID_ARGUMENT: the gzip
  // data is corrupt or ends early, or something other than gzip follows it; INTERNAL: read error.
  absl::StatusOr<int64_t> Read(uint8_t* to, int64_t size);

  bool compressed() const { return compressed_; }

 private:
  ByteSource(int fd, std::string name) : fd_(fd), name_(std::move(name)) {}

  // Fills the input buffer when it is empty. False at the end of the file.
  absl::StatusOr<bool> Fill();
  absl::StatusOr<int64_t> Inflate(uint8_t* to, int64_t size);

  const int fd_;
  const std::string name_;
  std::vector<uint8_t> buffer_;
  z_stream stream_{};  // next_in and avail_in also serve uncompressed files
  bool compressed_ = false;
  bool inflating_ = false;  // stream_ needs inflateEnd
  bool ended_ = false;      // past the last gzip member
};

}  // namespace normlab::engine
