#pragma once

#include "absl/strings/string_view.h"

namespace normlab::common {

// Whether `text` is `pattern`, in which '*' stands for any characters, also none, and every other
// character for itself. Takes at most pattern.size() * text.size() comparisons. Thread-safe.
bool WildcardMatch(absl::string_view pattern, absl::string_view text);

}  // namespace normlab::common
