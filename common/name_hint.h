#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace normlab::common {

// The candidate that somebody who wrote `name` most probably meant: equal but for case and
// underscores, or a few edits away. Empty when none is near. Thread-safe.
std::string NearestName(absl::string_view name, const std::vector<std::string>& candidates);

// A hint to end a message with: "did you mean X?", or the list of candidates when none is near.
// Thread-safe.
std::string NameHint(absl::string_view name, const std::vector<std::string>& candidates);

}  // namespace normlab::common
