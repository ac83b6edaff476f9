#pragma once

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace normlab::server {

// At most `bytes` (3 at least) of UTF-8 `text`, ending at a character and with "..." when something was cut.
std::string CutText(absl::string_view text, size_t bytes);

}  // namespace normlab::server
