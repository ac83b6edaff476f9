#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace normlab::engine {

// One thing that is wrong with a job specification.
struct Violation {
  // Path below the spec, for example model.mlp.hidden[1].
  std::string field;
  // What is wrong, with the offending value, and what to do.
  std::string description;
};

bool operator==(const Violation& a, const Violation& b);

// INVALID_ARGUMENT with every violation in its text, "field: description" joined by "; "; OK when
// there is none.
absl::Status ViolationsToStatus(const std::vector<Violation>& violations);

// `text` in double quotes, cut to 80 bytes, with everything but printable ASCII escaped: safe to
// show on any terminal and to put into a message, whatever bytes a client sent.
std::string Quoted(absl::string_view text);

}  // namespace normlab::engine
