#include "server/store/page_token.h"

#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "server/domain/errors.h"

namespace normlab::server {
namespace {

// Two numbers of at most 20 characters and the hash take less than 64 bytes, in base 64 less than
// this.
constexpr size_t kMaxTokenBytes = 128;

}  // namespace

std::string MakePageToken(const PagePosition& position, absl::string_view list) {
  return absl::WebSafeBase64Escape(
      absl::StrCat("1 ", position.create_time_us, " ", position.key, " ", list));
}

absl::StatusOr<PagePosition> ParsePageToken(absl::string_view token, absl::string_view list) {
  PagePosition position;
  if (token.empty()) {
    return position;
  }
  std::string text;
  if (token.size() > kMaxTokenBytes || !absl::WebSafeBase64Unescape(token, &text)) {
    return InvalidPageToken();
  }
  const std::vector<absl::string_view> parts = absl::StrSplit(text, ' ');
  if (parts.size() != 4 || parts[0] != "1" ||
      !absl::SimpleAtoi(parts[1], &position.create_time_us) ||
      !absl::SimpleAtoi(parts[2], &position.key) || parts[3] != list) {
    return InvalidPageToken();
  }
  return position;
}

}  // namespace normlab::server
