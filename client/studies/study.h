#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "normlab/v1/experiments.pb.h"
#include "normlab/v1/spec.pb.h"

namespace normlab::client::studies {

// One value of an axis: the fields that it gives other values, by path.
struct Level {
  std::string name;
  std::vector<std::pair<std::string, std::string>> fields;
};

// What the cells of a part differ in.
struct StudyAxis {
  std::string name;
  std::vector<Level> levels;
};

// One experiment of a study: all combinations of its axes' levels, each with every seed.
struct Part {
  std::string name;
  std::string about;
  v1::JobSpec base;
  std::vector<StudyAxis> axes;
  std::vector<uint32_t> seeds;
  double core_seconds = 0;  // of one job, measured where the preset was written
  // Fields (or the beginnings of their paths) that define the part: --set changes them only where it names the part.
  std::vector<std::string> own;

  int cells() const;
  int jobs() const { return cells() * static_cast<int>(seeds.size()); }
};

// A study as it is to be run: one preset, with the user's changes.
struct Plan {
  std::string study;
  std::string preset;
  std::vector<std::string> changes;  // the --set and --seeds given, for how to repeat it
  std::vector<Part> parts;

  int jobs() const;
  // Predicted, on so many cores.
  double Seconds(int cores) const;
};

struct Preset {
  std::string name;
  std::string about;
};

// What a study is, apart from how it is run.
struct StudyText {
  std::string name;
  std::string title;
  std::string question;
  std::string definition;
  std::string paper;  // what the literature found
  std::vector<std::string> sources;
  std::vector<Preset> presets;
};

// All studies, in the order of docs/studies. Constant; thread-safe.
const std::vector<std::string>& StudyNames();

// NOT_FOUND names the nearest study. Thread-safe.
absl::StatusOr<StudyText> DescribeStudy(absl::string_view name);

struct PlanOptions {
  std::string preset = "quick";
  // "field=value" for every part whose definition leaves it open, "part:field=value" for one part.
  std::vector<std::string> set;
  int seeds = 0;  // 0: as the preset says
};

// Reads a study's data and applies what the user changed. INVALID_ARGUMENT or NOT_FOUND names the field, study, preset or
// part, and the nearest one there is. Thread-safe.
absl::StatusOr<Plan> MakePlan(absl::string_view study, const PlanOptions& options);

// The levels of cell `index` of a part, in the order of its axes (the last one changes fastest).
std::vector<const Level*> LevelsOfCell(const Part& part, int index);

// The design that gives the part's cells in that order.
v1::Design MakeDesign(const Part& part);

}  // namespace normlab::client::studies
