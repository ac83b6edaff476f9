#include "server/app/byte_size.h"

#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace normlab::server {

bool AbslParseFlag(absl::string_view text, ByteSize* size, std::string* error) {
  const std::string lower = absl::AsciiStrToLower(absl::StripAsciiWhitespace(text));
  absl::string_view number = lower;
  if (absl::ConsumeSuffix(&number, "b")) {
    absl::ConsumeSuffix(&number, "i");
  }
  double factor = 1;
  if (!number.empty()) {
    const size_t unit = absl::string_view("kmgt").find(number.back());
    if (unit != absl::string_view::npos) {
      factor = std::pow(1024.0, static_cast<double>(unit + 1));
      number.remove_suffix(1);
    }
  }
  double amount = 0;
  // 2^53 bytes is more than any machine has, and doubles are exact up to there.
  if (!absl::SimpleAtod(number, &amount) || !(amount >= 0) || amount * factor > 0x1p53) {
    *error = "is not a number of bytes; write for example 8589934592, 8192M or 8GiB";
    return false;
  }
  size->bytes = static_cast<int64_t>(amount * factor);
  return true;
}

std::string AbslUnparseFlag(ByteSize size) {
  constexpr absl::string_view kUnits[] = {"TiB", "GiB", "MiB", "KiB"};
  int64_t factor = int64_t{1} << 40;
  for (const absl::string_view unit : kUnits) {
    if (size.bytes != 0 && size.bytes % factor == 0) {
      return absl::StrCat(size.bytes / factor, unit);
    }
    factor >>= 10;
  }
  return absl::StrCat(size.bytes);
}

}  // namespace normlab::server
