#include "common/name_hint.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"

namespace normlab::common {
namespace {

// Longer names are not misspelt field names, and the distance is quadratic.
constexpr size_t kLongestName = 128;

std::string Canonical(absl::string_view name) {
  return absl::AsciiStrToLower(absl::StrReplaceAll(name, {{"_", ""}, {"-", ""}}));
}

}  // namespace

int EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<int> before_last(b.size() + 1);
  std::vector<int> last(b.size() + 1);
  std::vector<int> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) {
    last[j] = static_cast<int>(j);
  }
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int replace = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({replace, last[j] + 1, row[j - 1] + 1});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before_last[j - 2] + 1);
      }
    }
    std::swap(before_last, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

std::string NearestName(absl::string_view name, const std::vector<std::string>& candidates) {
  if (name.empty() || name.size() > kLongestName) {
    return "";
  }
  const std::string wanted = Canonical(name);
  // A third of the letters wrong is still a typing error; more is another word.
  int best_distance = std::max<int>(1, static_cast<int>(wanted.size()) / 3) + 1;
  std::string best;
  for (const std::string& candidate : candidates) {
    const int distance = EditDistance(wanted, Canonical(candidate));
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
