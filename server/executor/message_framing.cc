#include "server/executor/message_framing.h"

#include "absl/strings/str_cat.h"

namespace normlab::server {
namespace {

constexpr size_t kLengthBytes = 4;

}  // namespace

void AppendFrame(absl::string_view message, std::string& out) {
  const auto length = static_cast<uint32_t>(message.size());
  for (size_t i = 0; i < kLengthBytes; ++i) {
    out.push_back(static_cast<char>((length >> (8 * i)) & 0xff));
  }
  out.append(message.data(), message.size());
}

absl::StatusOr<std::optional<std::string>> FrameReader::Next() {
  if (buffer_.size() - start_ < kLengthBytes) {
    return std::nullopt;
  }
  size_t length = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) {
    length |= static_cast<size_t>(static_cast<unsigned char>(buffer_[start_ + i])) << (8 * i);
  }
  if (length > kMaxFrameBytes) {
    return absl::DataLossError(
        absl::StrCat("a message of ", length, " bytes, more than ", kMaxFrameBytes));
  }
  if (buffer_.size() - start_ - kLengthBytes < length) {
    return std::nullopt;
  }
  std::string message = buffer_.substr(start_ + kLengthBytes, length);
  start_ += kLengthBytes + length;
  if (start_ == buffer_.size()) {
    buffer_.clear();
    start_ = 0;
    constexpr size_t kKeptBytes = size_t{1} << 20;
    if (buffer_.capacity() > kKeptBytes) {
      buffer_.shrink_to_fit();
    }
  } else if (start_ > buffer_.size() / 2) {
    buffer_.erase(0, start_);
    start_ = 0;
  }
  return message;
}

}  // namespace normlab::server
