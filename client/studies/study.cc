#include "client/studies/study.h"

#include <algorithm>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "client/lib/spec_file.h"
#include "client/lib/spec_override.h"
#include "client/studies/study_texts.h"
#include "common/name_hint.h"
#include "common/status_macros.h"

#include "yaml-cpp/yaml.h"

namespace normlab::client::studies {
namespace {

absl::Status Refuse(std::string message) {
  return absl::InvalidArgumentError(std::move(message));
}

std::string Text(const YAML::Node& node) {
  return node ? std::string(absl::StripAsciiWhitespace(node.as<std::string>())) : "";
}

std::string Flow(const YAML::Node& node) {
  if (node.IsScalar()) {
    return node.Scalar();
  }
  YAML::Emitter emitter;
  emitter << YAML::Flow << YAML::DoubleQuoted << node;
  return emitter.c_str();
}

absl::StatusOr<YAML::Node> Load(absl::string_view name) {
  for (const auto& [known, text] : EmbeddedStudies()) {
    if (known == name) {
      return YAML::Load(std::string(text));
    }
  }
  return absl::NotFoundError(absl::StrCat("\"", name, "\" is no study; ",
                                          common::NameHint(name, StudyNames()),
                                          ", and see them with: normlab study list"));
}

std::vector<std::string> Keys(const YAML::Node& map) {
  std::vector<std::string> keys;
  for (const auto& entry : map) {
    keys.push_back(entry.first.as<std::string>());
  }
  return keys;
}

absl::Status FirstViolation(const std::vector<SpecViolation>& violations) {
  return violations.empty()
             ? absl::OkStatus()
             : Refuse(absl::StrCat(violations.front().where.ToString(), ": ",
                                   violations.front().field, ": ", violations.front().description));
}

// Merges a spec written in a study's file over `spec`.
absl::Status Merge(const std::string& where, const YAML::Node& node, v1::JobSpec& spec) {
  if (!node) {
    return absl::OkStatus();
  }
  const SpecResult result = ParseSpec(where, YAML::Dump(node), SpecFormat::kYaml);
  NORMLAB_RETURN_IF_ERROR(FirstViolation(result.violations));
  spec.MergeFrom(result.document.spec);
  return absl::OkStatus();
}

absl::Status Set(const std::string& field,
                 const std::string& value,
                 const std::string& where,
                 v1::JobSpec& spec) {
  SpecDocument document;
  document.spec = spec;
  std::vector<SpecViolation> violations;
  ApplyOverride(field, value, where, document, violations);
  NORMLAB_RETURN_IF_ERROR(FirstViolation(violations));
  spec = document.spec;
  return absl::OkStatus();
}

// {field: F, values: [...]} or {level: {field: value, ...}, ...}.
StudyAxis ReadAxis(const std::string& name, const YAML::Node& node) {
  StudyAxis axis{.name = name, .levels = {}};
  if (node["field"]) {
    for (const YAML::Node& value : node["values"]) {
      const std::string text = Flow(value);
      axis.levels.push_back({text, {{node["field"].as<std::string>(), text}}});
    }
    return axis;
  }
  for (const auto& entry : node) {
    Level level{.name = entry.first.as<std::string>(), .fields = {}};
    for (const auto& field : entry.second) {
      level.fields.emplace_back(field.first.as<std::string>(), Flow(field.second));
    }
    axis.levels.push_back(std::move(level));
  }
  return axis;
}

// A preset's choice among the levels of an axis; values of a plain field need not be listed before.
absl::Status ChooseLevels(const YAML::Node& chosen, const YAML::Node& axis_node, StudyAxis& axis) {
  std::vector<Level> levels;
  for (const YAML::Node& node : chosen) {
    const std::string name = Flow(node);
    const auto level = std::find_if(axis.levels.begin(), axis.levels.end(),
                                    [&name](const Level& l) { return l.name == name; });
    if (level != axis.levels.end()) {
      levels.push_back(*level);
    } else if (axis_node["field"]) {
      levels.push_back({name, {{axis_node["field"].as<std::string>(), name}}});
    } else {
      return Refuse(absl::StrCat("axis ", axis.name, " has no level ", name));
    }
  }
  axis.levels = std::move(levels);
  return absl::OkStatus();
}

bool Covers(absl::string_view field, absl::string_view path) {
  return path == field || absl::StartsWith(path, absl::StrCat(field, ".")) ||
         absl::StartsWith(field, absl::StrCat(path, "."));
}

absl::StatusOr<Part> ReadPart(const std::string& study,
                              const std::string& preset,
                              const std::string& name,
                              const YAML::Node& root) {
  const YAML::Node node = root["parts"][name];
  const YAML::Node chosen = root["presets"][preset]["parts"][name];
  Part part{.name = name, .about = Text(node["about"])};
  const std::string where = absl::StrCat("study ", study, ", part ", name);
  NORMLAB_RETURN_IF_ERROR(Merge(where, root["base"], part.base));
  NORMLAB_RETURN_IF_ERROR(Merge(where, node["base"], part.base));
  for (const auto& entry : chosen["set"]) {
    NORMLAB_RETURN_IF_ERROR(
        Set(entry.first.as<std::string>(), Flow(entry.second), where, part.base));
  }
  for (const auto& entry : node["axes"]) {
    const auto axis_name = entry.first.as<std::string>();
    part.axes.push_back(ReadAxis(axis_name, entry.second));
    if (chosen["axes"] && chosen["axes"][axis_name]) {
      NORMLAB_RETURN_IF_ERROR(
          ChooseLevels(chosen["axes"][axis_name], entry.second, part.axes.back()));
    }
  }
  const YAML::Node seeds = chosen["seeds"] ? chosen["seeds"] : root["presets"][preset]["seeds"];
  for (uint32_t seed = 1; seed <= seeds.as<uint32_t>(); ++seed) {
    part.seeds.push_back(seed);
  }
  part.core_seconds = chosen["core_seconds"].as<double>();
  for (const YAML::Node& field : node["own"]) {
    part.own.push_back(field.as<std::string>());
  }
  return part;
}

// The field of an axis that a change would fight with, if any.
std::optional<std::string> AxisOver(const Part& part, absl::string_view field) {
  for (const StudyAxis& axis : part.axes) {
    for (const Level& level : axis.levels) {
      for (const auto& [path, value] : level.fields) {
        if (Covers(path, field)) {
          return axis.name;
        }
      }
    }
  }
  return std::nullopt;
}

absl::Status ApplyChange(absl::string_view change, Plan& plan) {
  const size_t equals = change.find('=');
  if (equals == absl::string_view::npos || equals == 0) {
    return Refuse(
        absl::StrCat("--set ", change, ": write field=value, for example --set steps=100"));
  }
  absl::string_view field = change.substr(0, equals);
  const std::string value(change.substr(equals + 1));
  std::string only;
  if (const size_t colon = field.find(':'); colon != absl::string_view::npos) {
    only = std::string(field.substr(0, colon));
    field.remove_prefix(colon + 1);
    std::vector<std::string> names;
    for (const Part& part : plan.parts) {
      names.push_back(part.name);
    }
    if (std::find(names.begin(), names.end(), only) == names.end()) {
      return Refuse(absl::StrCat("--set ", change, ": study ", plan.study, " has no part ", only,
                                 "; ", common::NameHint(only, names)));
    }
  }
  if (field == "seed") {
    return Refuse(
        "--set seed: a study runs every cell with several seeds; say how many with --seeds");
  }
  int applied = 0;
  std::string obstacle;
  for (Part& part : plan.parts) {
    const bool named = part.name == only;
    if (!only.empty() && !named) {
      continue;
    }
    if (const auto axis = AxisOver(part, field); axis.has_value()) {
      obstacle = absl::StrCat("is what axis ", *axis, " of part ", part.name,
                              " varies; choose another field");
      continue;
    }
    const bool owned =
        !named && std::any_of(part.own.begin(), part.own.end(),
                              [field](const std::string& own) { return Covers(own, field); });
    if (owned) {
      obstacle = absl::StrCat("is what part ", part.name, " is about; if you mean it, write --set ",
                              part.name, ":", change);
      continue;
    }
    const int32_t steps = part.base.steps();
    NORMLAB_RETURN_IF_ERROR(Set(std::string(field), value, "--set", part.base));
    if (steps > 0 && part.base.steps() > 0) {
      part.core_seconds *= static_cast<double>(part.base.steps()) / steps;
    }
    ++applied;
  }
  return applied > 0 ? absl::OkStatus() : Refuse(absl::StrCat("--set ", field, ": ", obstacle));
}

absl::StatusOr<Plan> MakePlanOf(absl::string_view study, const PlanOptions& options) {
  NORMLAB_ASSIGN_OR_RETURN(const YAML::Node root, Load(study));
  const YAML::Node preset = root["presets"][options.preset];
  if (!preset) {
    return absl::NotFoundError(
        absl::StrCat("study ", study, " has no preset \"", options.preset, "\"; ",
                     common::NameHint(options.preset, Keys(root["presets"]))));
  }
  Plan plan{.study = std::string(study), .preset = options.preset};
  for (const std::string& name : Keys(preset["parts"])) {
    NORMLAB_ASSIGN_OR_RETURN(Part part, ReadPart(plan.study, options.preset, name, root));
    plan.parts.push_back(std::move(part));
  }
  for (const std::string& change : options.set) {
    NORMLAB_RETURN_IF_ERROR(ApplyChange(change, plan));
    plan.changes.push_back(absl::StrCat("--set ", change));
  }
  if (options.seeds > 0) {
    plan.changes.push_back(absl::StrCat("--seeds ", options.seeds));
    for (Part& part : plan.parts) {
      part.seeds.clear();
      for (int seed = 1; seed <= options.seeds; ++seed) {
        part.seeds.push_back(static_cast<uint32_t>(seed));
      }
    }
  }
  return plan;
}

}  // namespace

int Part::cells() const {
  int cells = 1;
  for (const StudyAxis& axis : axes) {
    cells *= static_cast<int>(axis.levels.size());
  }
  return cells;
}

int Plan::jobs() const {
  int jobs = 0;
  for (const Part& part : parts) {
    jobs += part.jobs();
  }
  return jobs;
}

double Plan::Seconds(int cores) const {
  double core_seconds = 0;
  for (const Part& part : parts) {
    core_seconds += part.jobs() * part.core_seconds;
  }
  return core_seconds / std::max(1, cores);
}

const std::vector<std::string>& StudyNames() {
  static const auto* const names = [] {
    auto* list = new std::vector<std::string>;
    for (const auto& [name, text] : EmbeddedStudies()) {
      list->emplace_back(name);
    }
    return list;
  }();
  return *names;
}

absl::StatusOr<StudyText> DescribeStudy(absl::string_view name) {
  NORMLAB_ASSIGN_OR_RETURN(const YAML::Node root, Load(name));
  try {
    StudyText text{.name = std::string(name),
                   .title = Text(root["title"]),
                   .question = Text(root["question"]),
                   .definition = Text(root["definition"]),
                   .paper = Text(root["paper"])};
    for (const YAML::Node& source : root["sources"]) {
      text.sources.push_back(Text(source));
    }
    for (const auto& preset : root["presets"]) {
      text.presets.push_back({preset.first.as<std::string>(), Text(preset.second["about"])});
    }
    return text;
  } catch (const YAML::Exception& e) {
    return absl::InternalError(absl::StrCat("study ", name, ": ", e.what()));
  }
}

absl::StatusOr<Plan> MakePlan(absl::string_view study, const PlanOptions& options) {
  try {
    return MakePlanOf(study, options);
  } catch (const YAML::Exception& e) {
    return absl::InternalError(absl::StrCat("study ", study, ": ", e.what()));
  }
}

std::vector<const Level*> LevelsOfCell(const Part& part, int index) {
  std::vector<const Level*> levels(part.axes.size());
  for (size_t a = part.axes.size(); a-- > 0;) {
    const std::vector<Level>& choices = part.axes[a].levels;
    levels[a] = &choices[static_cast<size_t>(index) % choices.size()];
    index /= static_cast<int>(choices.size());
  }
  return levels;
}

v1::Design MakeDesign(const Part& part) {
  v1::Design design;
  design.mutable_seeds()->Add(part.seeds.begin(), part.seeds.end());
  const bool plain = std::all_of(part.axes.begin(), part.axes.end(), [](const StudyAxis& axis) {
    return std::all_of(axis.levels.begin(), axis.levels.end(), [&axis](const Level& level) {
      return level.fields.size() == 1 && level.fields[0].first == axis.levels[0].fields[0].first;
    });
  });
  if (plain) {
    for (const StudyAxis& axis : part.axes) {
      v1::Axis& to = *design.add_axes();
      to.set_field(axis.levels[0].fields[0].first);
      for (const Level& level : axis.levels) {
        to.add_values(level.fields[0].second);
      }
    }
    return design;
  }
  for (int cell = 0; cell < part.cells(); ++cell) {
    v1::Assignments& to = *design.add_cells();
    for (const Level* level : LevelsOfCell(part, cell)) {
      for (const auto& [field, value] : level->fields) {
        (*to.mutable_values())[field] = value;
      }
    }
  }
  return design;
}

}  // namespace normlab::client::studies
