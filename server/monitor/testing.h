#pragma once

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace normlab::server {

// The value of one sample of an exposition, asked for as name{labels}; "absent" when it is not
// there. For tests.
inline std::string Sample(const std::string& text, const std::string& name_and_labels) {
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    if (absl::StartsWith(line, name_and_labels + " ")) {
      return std::string(line.substr(name_and_labels.size() + 1));
    }
  }
  return "absent";
}

}  // namespace normlab::server
