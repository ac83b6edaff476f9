#include "server/api/cut_text.h"

#include "absl/strings/str_cat.h"

namespace normlab::server {

std::string CutText(absl::string_view text, size_t bytes) {
  if (text.size() <= bytes) {
    return std::string(text);
  }
  size_t end = bytes - 3;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) {
    --end;
  }
  return absl::StrCat(text.substr(0, end), "...");
}

}  // namespace normlab::server
