#pragma once

#include "absl/strings/string_view.h"

namespace normlab::common {

// Number of insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`
// (optimal string alignment). Thread-safe; O(|a| |b|).
int EditDistance(absl::string_view a, absl::string_view b);

}  // namespace normlab::common
