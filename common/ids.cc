#include "common/ids.h"

#include <sys/random.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>

namespace normlab::common {
namespace {

// Crockford's alphabet: without i, l, o and u, which people misread.
constexpr absl::string_view kAlphabet = "0123456789abcdefghjkmnpqrstvwxyz";
constexpr int kTimeCharacters = 8;
constexpr int kRandomCharacters = 12;

}  // namespace

std::string RandomBytes(size_t count) {
  std::string bytes(count, '\0');
  size_t filled = 0;
  while (filled < count) {
    const ssize_t got = getrandom(bytes.data() + filled, count - filled, 0);
    if (got < 0) {
      if (errno == EINTR) {
        continue;
      }
      std::abort();
    }
    filled += static_cast<size_t>(got);
  }
  return bytes;
}

std::string NewId(absl::Time now) {
  std::string id;
  const auto milliseconds = static_cast<uint64_t>(absl::ToUnixMillis(now));
  for (int i = kTimeCharacters - 1; i >= 0; --i) {
    id.push_back(kAlphabet[(milliseconds >> (5 * i)) & 31]);
  }
  for (const char byte : RandomBytes(kRandomCharacters)) {
    id.push_back(kAlphabet[static_cast<unsigned char>(byte) & 31]);
  }
  return id;
}

bool IsId(absl::string_view text) {
  return text.size() == kTimeCharacters + kRandomCharacters &&
         text.find_first_not_of(kAlphabet) == absl::string_view::npos;
}

}  // namespace normlab::common
