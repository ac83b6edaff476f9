#include "common/name_hint.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"

#include "common/edit_distance.h"

namespace normlab::common {
namespace {

// Longer names are not misspelt field names, and the distance is quadratic.
constexpr size_t kLongestName = 128;

std::string Canonical(absl::string_view name) {
  return absl::AsciiStrToLower(absl::StrReplaceAll(name, {{"_", ""}, {"-", ""}}));
}

}  // namespace

std::string NearestName(absl::string_view name, const std::vector<std::string>& candidates) {
  if (name.empty() || name.size() > kLongestName) {
    return "";
  }
  const std::string wanted = Canonical(name);
  // A third of the letters wrong is still a typing error; more is another word.
  int best_distance = std::max<int>(1, static_cast<int>(wanted.size()) / 3) + 1;
  std::string best;
  for (const std::string& candidate : candidates) {
    const int distance = common::EditDistance(wanted, Canonical(candidate));
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

std::string NameHint(absl::string_view name, const std::vector<std::string>& candidates) {
  const std::string nearest = NearestName(name, candidates);
  if (!nearest.empty()) {
    return absl::StrCat("did you mean ", nearest, "?");
  }
  if (candidates.empty()) {
    return "nothing can be set here; use {}";
  }
  return absl::StrCat("use one of ", absl::StrJoin(candidates, ", "));
}

}  // namespace normlab::common
