#pragma once

#include <cstdio>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace normlab::engine {

// Messages on a pipe: 8 bytes little-endian length, then so many bytes.

// Reads the next frame into `payload`, whose memory is reused. False: the other side closed its end
// between two frames. DATA_LOSS: it closed it within one. RESOURCE_EXHAUSTED: longer than any
// message of ours. Not thread-safe.
absl::StatusOr<bool> ReadFrame(std::FILE* in, std::string& payload);

// Writes and flushes a frame. UNAVAILABLE: nobody reads. Not thread-safe.
absl::Status WriteFrame(std::FILE* out, absl::string_view payload);

}  // namespace normlab::engine
