#include "server/api/experiment_jobs.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "engine/spec/limits.h"
#include "server/api/cut_text.h"

namespace normlab::server {
namespace {

constexpr size_t kMaxTold = 100;
constexpr size_t kMaxRemembered = 1000;

// A path in the form of a label's key: "probes[0].every" -> "probes-0-every".
std::string AsLabelKey(absl::string_view text) {
  std::string key;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (absl::ascii_isalnum(byte) || c == '_' || c == '-') {
      key.push_back(absl::ascii_tolower(byte));
    } else if (!key.empty() && key.back() != '-' && c != ']') {
      key.push_back('-');
    }
  }
  const size_t letter =
      std::find_if(key.begin(), key.end(),
                   [](char c) { return absl::ascii_islower(static_cast<unsigned char>(c)); }) -
      key.begin();
  key.erase(0, letter);
  // The end says more than the beginning.
  if (key.size() > static_cast<size_t>(engine::kMaxLabelKeyBytes)) {
    return AsLabelKey(absl::string_view(key).substr(key.size() - engine::kMaxLabelKeyBytes));
  }
  return key;
}

std::string LastName(absl::string_view field) {
  const std::vector<absl::string_view> names = absl::StrSplit(field, '.');
  return std::string(names.back().substr(0, names.back().find('[')));
}

std::string ValuesText(const DesignCell& cell) {
  std::string text;
  for (const auto& [field, value] : cell.values) {
    absl::StrAppend(&text, text.empty() ? "" : ", ", field, " = ", CutText(value, 60));
  }
  return text;
}

}  // namespace

std::vector<std::string> LabelKeys(const std::vector<std::string>& fields) {
  std::map<std::string, int> uses;
  for (const std::string& field : fields) {
    ++uses[AsLabelKey(LastName(field))];
  }
  std::vector<std::string> keys;
  for (const std::string& field : fields) {
    std::string key = AsLabelKey(LastName(field));
    keys.push_back(uses[key] == 1 ? key : AsLabelKey(field));
  }
  return keys;
}

void NameJob(const v1::Experiment& experiment,
             const DesignCell& cell,
             const std::vector<std::string>& keys,
             uint32_t seed,
             v1::Job& job) {
  constexpr auto kMaxText = static_cast<size_t>(engine::kMaxTextCharacters);
  std::string name =
      experiment.display_name().empty() ? job.display_name() : experiment.display_name();
  absl::StrAppend(&name, name.empty() ? "" : ": ");
  for (size_t i = 0; i < cell.values.size(); ++i) {
    absl::StrAppend(&name, keys[i], "=", CutText(cell.values[i].second, 40), ", ");
  }
  const std::string end = absl::StrCat("seed=", seed);
  job.set_display_name(absl::StrCat(CutText(name, kMaxText - end.size()), end));

  auto& labels = *job.mutable_labels();
  for (const auto& [key, value] : experiment.labels()) {
    labels[key] = value;
  }
  for (size_t i = 0; i < cell.values.size(); ++i) {
    // What the user wrote stays.
    if (!keys[i].empty() && labels.size() < static_cast<size_t>(engine::kMaxLabels) &&
        !labels.contains(keys[i])) {
      labels[keys[i]] = CutText(cell.values[i].second, kMaxText);
    }
  }
}

void CellViolations::Add(int64_t cell,
                         const DesignCell& design_cell,
                         absl::Span<const FieldViolation> violations) {
  for (const FieldViolation& violation : violations) {
    const auto key = std::pair(violation.field, violation.description);
    auto seen = distinct_.find(key);
    if (seen == distinct_.end()) {
      if (distinct_.size() == kMaxRemembered) {
        ++dropped_;
        continue;
      }
      seen = distinct_
                 .emplace(key, Seen{.order = distinct_.size(),
                                    .first_cell = cell,
                                    .values = ValuesText(design_cell)})
                 .first;
    }
    ++seen->second.count;
  }
}

std::vector<FieldViolation> CellViolations::Take(int64_t cells) const {
  using Entry = std::pair<const std::pair<std::string, std::string>, Seen>;
  std::vector<const Entry*> in_order;
  for (const Entry& entry : distinct_) {
    in_order.push_back(&entry);
  }
  std::sort(in_order.begin(), in_order.end(),
            [](const Entry* a, const Entry* b) { return a->second.order < b->second.order; });
  std::vector<FieldViolation> told;
  for (const Entry* entry : in_order) {
    const auto& [field, description] = entry->first;
    const Seen& seen = entry->second;
    if (told.size() == kMaxTold) {
      told.push_back(
          {"cells", absl::StrCat(static_cast<int64_t>(in_order.size() - kMaxTold) + dropped_,
                                 " more problems are not shown; correct these and submit again")});
      break;
    }
    if (seen.count == cells) {
      told.push_back({absl::StrCat("base.", field), description});
      continue;
    }
    const std::string others =
        seen.count > 1 ? absl::StrCat(", and of ", seen.count - 1, " more cells") : "";
    told.push_back({absl::StrCat("cells[", seen.first_cell, "].", field),
                    absl::StrCat(description, " (the cell of ", seen.values, others, ")")});
  }
  return told;
}

}  // namespace normlab::server
