#include "engine/spec/violation.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace normlab::engine {
namespace {

constexpr size_t kShownBytes = 80;

}  // namespace

bool operator==(const Violation& a, const Violation& b) {
  return a.field == b.field && a.description == b.description;
}

absl::Status ViolationsToStatus(const std::vector<Violation>& violations) {
  if (violations.empty()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrJoin(violations, "; ", [](std::string* out, const Violation& violation) {
        absl::StrAppend(out, violation.field, ": ", violation.description);
      }));
}

std::string Quoted(absl::string_view text) {
  return absl::StrCat("\"", absl::CHexEscape(text.substr(0, kShownBytes)),
                      text.size() > kShownBytes ? "...\"" : "\"");
}

}  // namespace normlab::engine
