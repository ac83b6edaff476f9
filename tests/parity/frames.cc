#include "tests/parity/frames.h"

#include <array>
#include <cstdint>

#include "absl/strings/str_cat.h"

namespace normlab::engine {
namespace {

constexpr uint64_t kMaxFrame = uint64_t{4} << 30;

}  // namespace

absl::StatusOr<bool> ReadFrame(std::FILE* in, std::string& payload) {
  std::array<unsigned char, 8> header = {};
  const size_t read = std::fread(header.data(), 1, header.size(), in);
  if (read == 0) {
    return false;
  }
  uint64_t length = 0;
  for (size_t i = 0; i < header.size(); ++i) {
    length |= uint64_t{header[i]} << (8 * i);
  }
  if (read == header.size() && length > kMaxFrame) {
    return absl::ResourceExhaustedError(
        absl::StrCat("a frame of ", length, " bytes; send at most ", kMaxFrame));
  }
  payload.resize(length);
  if (read < header.size() || std::fread(payload.data(), 1, length, in) != length) {
    return absl::DataLossError("the input ended within a frame; send its length in 8 bytes first");
  }
  return true;
}

absl::Status WriteFrame(std::FILE* out, absl::string_view payload) {
  std::array<unsigned char, 8> header = {};
  for (size_t i = 0; i < header.size(); ++i) {
    header[i] = static_cast<unsigned char>(uint64_t{payload.size()} >> (8 * i));
  }
  if (std::fwrite(header.data(), 1, header.size(), out) != header.size() ||
      std::fwrite(payload.data(), 1, payload.size(), out) != payload.size() ||
      std::fflush(out) != 0) {
    return absl::UnavailableError("nobody reads the replies; keep the pipe open");
  }
  return absl::OkStatus();
}

}  // namespace normlab::engine
