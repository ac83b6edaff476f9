#include <algorithm>
#include <charconv>
#include <limits>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"

#include "client/report/runs.h"
#include "client/report/spec_difference.h"
#include "common/name_hint.h"

namespace normlab::client::report {
namespace {

using normlab::v1::Job;

// Groups that a message names.
constexpr size_t kMostListed = 8;

// The spec without what tells jobs of one group apart, as bytes.
std::string GroupKey(const Job& job) {
  normlab::v1::JobSpec spec = job.has_resolved_spec() ? job.resolved_spec() : job.spec();
  spec.clear_seed();
  spec.clear_display_name();
  spec.clear_labels();
  spec.clear_priority();
  return spec.SerializeAsString();  // no maps are left, so equal specs have equal bytes
}

const normlab::v1::JobSpec& SpecOf(const RunGroup& group) {
  const Job& job = group.runs.front().job;
  return job.has_resolved_spec() ? job.resolved_spec() : job.spec();
}

// The name that all jobs of a group have; empty: none.
std::string CommonName(const RunGroup& group) {
  const std::string& name = group.runs.front().job.display_name();
  const bool common = std::all_of(group.runs.begin(), group.runs.end(), [&](const RunData& run) {
    return run.job.display_name() == name;
  });
  return common ? name : "";
}

void NameGroups(std::vector<RunGroup>& groups) {
  std::vector<std::string> given;
  std::vector<const normlab::v1::JobSpec*> specs;
  for (const RunGroup& group : groups) {
    given.push_back(CommonName(group));
    specs.push_back(&SpecOf(group));
  }
  // A name that two groups share tells nothing; those that are one group's own are kept, whatever the others have.
  const std::vector<std::string> differences = NamesByDifference(specs);
  std::set<std::string> taken;
  for (size_t i = 0; i < groups.size(); ++i) {
    const bool own = !given[i].empty() && std::count(given.begin(), given.end(), given[i]) == 1;
    std::string name = own ? given[i] : differences[i];
    if (name.empty()) {
      name = given[i].empty() ? groups[i].runs.front().job.name() : given[i];
    }
    if (!taken.insert(name).second) {
      name = absl::StrCat(name, " (", groups[i].runs.front().job.name(), ")");
    }
    groups[i].name = name;
  }
}

bool IsNumber(const std::string& text) {
  double value = 0;
  const auto end = std::from_chars(text.data(), text.data() + text.size(), value);
  return end.ec == std::errc() && end.ptr == text.data() + text.size();
}

std::string LastPart(const std::string& field) {
  const size_t dot = field.rfind('.');
  return dot == std::string::npos ? field : field.substr(dot + 1);
}

}  // namespace

double RunData::Final(const std::string& name) const {
  const auto& metrics = job.result().final_metrics();
  const auto found = metrics.find(name);
  return found == metrics.end() ? std::numeric_limits<double>::quiet_NaN() : found->second;
}

std::vector<RunGroup> GroupJobs(std::vector<RunData> runs) {
  std::vector<RunGroup> groups;
  std::vector<std::string> keys;
  for (RunData& run : runs) {
    const std::string key = GroupKey(run.job);
    const auto found = std::find(keys.begin(), keys.end(), key);
    const auto index = static_cast<size_t>(found - keys.begin());
    if (found == keys.end()) {
      keys.push_back(key);
      groups.emplace_back();
    }
    groups[index].runs.push_back(std::move(run));
  }
  for (RunGroup& group : groups) {
    std::stable_sort(group.runs.begin(), group.runs.end(), [](const RunData& a, const RunData& b) {
      return a.job.spec().seed() < b.job.spec().seed();
    });
  }
  if (!groups.empty()) {
    NameGroups(groups);
  }
  return groups;
}

absl::StatusOr<size_t> FindGroup(const std::vector<RunGroup>& groups, const std::string& wanted) {
  std::vector<std::string> names;
  std::vector<std::string> listed;
  for (size_t i = 0; i < groups.size(); ++i) {
    const bool has_job =
        std::any_of(groups[i].runs.begin(), groups[i].runs.end(), [&wanted](const RunData& run) {
          return run.job.name() == wanted || run.job.name() == absl::StrCat("jobs/", wanted);
        });
    if (absl::EqualsIgnoreCase(groups[i].name, wanted) || has_job) {
      return i;
    }
    names.push_back(groups[i].name);
    if (i < kMostListed) {
      listed.push_back(absl::StrCat(i, " \"", groups[i].name, "\""));
    }
  }
  if (groups.size() > kMostListed) {
    listed.push_back(absl::StrCat("and so on to ", groups.size() - 1));
  }
  size_t number = 0;
  const auto end = std::from_chars(wanted.data(), wanted.data() + wanted.size(), number);
  const bool is_number = end.ec == std::errc() && end.ptr == wanted.data() + wanted.size();
  if (is_number && number < groups.size()) {
    return number;
  }
  const std::string nearest = is_number ? "" : common::NearestName(wanted, names);
  const std::string problem =
      is_number ? absl::StrCat("there is no number ", wanted, " here: they count from 0")
                : absl::StrCat("there is none called \"", wanted, "\" here");
  return absl::InvalidArgumentError(absl::StrCat(
      problem, "; ",
      nearest.empty() ? absl::StrCat("use a number or name of: ", absl::StrJoin(listed, "; "))
                      : absl::StrCat("did you mean \"", nearest, "\"?")));
}

std::vector<RunGroup> GroupCells(const normlab::v1::Experiment& experiment,
                                 std::vector<std::string>* axes) {
  axes->clear();
  const auto add_axis = [&](const std::string& field) {
    if (std::find(axes->begin(), axes->end(), field) == axes->end()) {
      axes->push_back(field);
    }
  };
  for (const normlab::v1::Axis& axis : experiment.design().axes()) {
    add_axis(axis.field());
  }
  std::set<std::string> other;  // of cells that are listed one by one, in the order of the alphabet
  for (const normlab::v1::Cell& cell : experiment.cells()) {
    for (const auto& [field, value] : cell.values()) {
      other.insert(field);
    }
  }
  std::for_each(other.begin(), other.end(), add_axis);
  std::vector<RunGroup> groups;
  for (const normlab::v1::Cell& cell : experiment.cells()) {
    RunGroup group;
    std::vector<std::string> parts;
    for (const std::string& field : *axes) {
      const auto found = cell.values().find(field);
      const std::string value = found == cell.values().end() ? "" : found->second;
      group.levels.push_back(value);
      if (!value.empty()) {
        parts.push_back(IsNumber(value) || axes->size() > 2
                            ? absl::StrCat(LastPart(field), " ", value)
                            : value);
      }
    }
    group.name =
        parts.empty() ? "base" : absl::StrReplaceAll(absl::StrJoin(parts, ", "), {{"_", " "}});
    groups.push_back(std::move(group));
  }
  return groups;
}

}  // namespace normlab::client::report
