#pragma once

#include <utility>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace normlab::client::studies {

// Name and YAML of every file in studies/data, as they were when the program was built.
absl::Span<const std::pair<absl::string_view, absl::string_view>> EmbeddedStudies();

}  // namespace normlab::client::studies
