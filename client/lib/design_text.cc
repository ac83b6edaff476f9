#include "client/lib/design_text.h"

#include <fstream>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "client/lib/number_format.h"
#include "common/status_macros.h"

#include "yaml-cpp/yaml.h"

namespace normlab::client {
namespace {

constexpr uint32_t kMaxSeeds = 10000;
constexpr size_t kMaxFileBytes = size_t{4} << 20;

absl::Status Invalid(absl::string_view text, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(text, " ", why));
}

// The parts of `text` between commas at its top level.
absl::StatusOr<std::vector<std::string>> SplitValues(absl::string_view text) {
  std::vector<std::string> values(1);
  int depth = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\' && i + 1 < text.size()) {
        values.back().push_back(c);
        values.back().push_back(text[++i]);
        continue;
      }
      quoted = c != '"';
    } else if (c == '"') {
      quoted = true;
    } else if (c == '[' || c == '{') {
      ++depth;
    } else if (c == ']' || c == '}') {
      if (--depth < 0) {
        return Invalid(text, "has a bracket that closes nothing; balance the brackets");
      }
    } else if (c == ',' && depth == 0) {
      values.emplace_back();
      continue;
    }
    values.back().push_back(c);
  }
  if (quoted || depth > 0) {
    return Invalid(text, "has a quote or bracket that is not closed; close it");
  }
  return values;
}

// Whether the text means a range; sets it, or says what is wrong with it.
absl::StatusOr<bool> ParseRange(absl::string_view text, normlab::v1::Range& range) {
  absl::string_view rest = text;
  bool prefixed = true;
  while (prefixed) {
    const bool logarithmic = absl::ConsumePrefix(&rest, "log:");
    const bool integer = absl::ConsumePrefix(&rest, "int:");
    range.set_logarithmic(range.logarithmic() || logarithmic);
    range.set_integer(range.integer() || integer);
    prefixed = logarithmic || integer;
  }
  const bool has_prefix = rest.size() != text.size();
  const std::vector<absl::string_view> ends = absl::StrSplit(rest, absl::MaxSplits("..", 1));
  double minimum = 0;
  double maximum = 0;
  if (ends.size() != 2 || !absl::SimpleAtod(ends[0], &minimum) ||
      !absl::SimpleAtod(ends[1], &maximum)) {
    if (has_prefix) {
      return Invalid(text, "is no range; write for example log:0.001..1");
    }
    return false;
  }
  range.set_minimum(minimum);
  range.set_maximum(maximum);
  return true;
}

// YAML as the JSON that it means.
std::string ToJsonText(const YAML::Node& node) {
  switch (node.Type()) {
    case YAML::NodeType::Sequence: {
      std::vector<std::string> elements;
      for (const YAML::Node& element : node) {
        elements.push_back(ToJsonText(element));
      }
      return absl::StrCat("[", absl::StrJoin(elements, ", "), "]");
    }
    case YAML::NodeType::Map: {
      std::vector<std::string> entries;
      for (const auto& entry : node) {
        entries.push_back(absl::StrCat(FormatJsonString(entry.first.as<std::string>()), ": ",
                                       ToJsonText(entry.second)));
      }
      return absl::StrCat("{", absl::StrJoin(entries, ", "), "}");
    }
    case YAML::NodeType::Scalar: {
      const std::string& text = node.Scalar();
      double number = 0;
      const bool plain = node.Tag() != "!";  // "!": it was in quotes
      const bool literal = text == "true" || text == "false";
      return plain && (literal || absl::SimpleAtod(text, &number)) ? text : FormatJsonString(text);
    }
    default:
      return "null";
  }
}

std::string At(const std::string& name, const YAML::Mark& mark) {
  return mark.is_null() ? name : absl::StrCat(name, ":", mark.line + 1, ":", mark.column + 1);
}

}  // namespace

absl::StatusOr<normlab::v1::Axis> ParseAxis(absl::string_view text) {
  const size_t equals = text.find('=');
  if (equals == absl::string_view::npos || equals == 0) {
    return Invalid(text, "is not FIELD=VALUE,VALUE...; write for example normalization=none,batch");
  }
  normlab::v1::Axis axis;
  axis.set_field(std::string(text.substr(0, equals)));
  const absl::string_view values = text.substr(equals + 1);
  normlab::v1::Range range;
  NORMLAB_ASSIGN_OR_RETURN(const bool is_range, ParseRange(values, range));
  if (is_range) {
    *axis.mutable_range() = range;
    return axis;
  }
  NORMLAB_ASSIGN_OR_RETURN(const std::vector<std::string> parts, SplitValues(values));
  for (const std::string& part : parts) {
    if (part.empty()) {
      return Invalid(text,
                     "has an empty value; remove the comma that is too many, or give \"\" for "
                     "an empty text");
    }
    axis.add_values(part);
  }
  return axis;
}

absl::StatusOr<std::vector<uint32_t>> ParseSeeds(absl::string_view text) {
  const std::vector<std::string> parts = absl::StrSplit(text, ',', absl::SkipEmpty());
  std::vector<uint32_t> seeds;
  for (const std::string& part : parts) {
    uint32_t seed = 0;
    if (!absl::SimpleAtoi(part, &seed)) {
      return Invalid(text, "is neither a number of seeds (5) nor a list of them (1,4,7)");
    }
    seeds.push_back(seed);
  }
  if (seeds.size() == 1 && !absl::StrContains(text, ",")) {
    const uint32_t count = seeds[0];
    if (count < 1 || count > kMaxSeeds) {
      return Invalid(text, absl::StrCat("is no number of seeds; give 1 to ", kMaxSeeds,
                                        ", or a list as ", text, ",", " for one seed"));
    }
    seeds.clear();
    for (uint32_t seed = 1; seed <= count; ++seed) {
      seeds.push_back(seed);
    }
  }
  if (seeds.empty()) {
    return absl::InvalidArgumentError("no seed is given; give a number of seeds or a list");
  }
  return seeds;
}

absl::StatusOr<std::vector<normlab::v1::Assignments>> ParseCells(const std::string& name,
                                                                 const std::string& text) {
  try {
    const YAML::Node root = YAML::Load(text);
    if (!root.IsSequence() || root.size() == 0) {
      return Invalid(At(name, root.Mark()),
                     "is no list of cells; write - {normalization: batch, batch_size: 60}, a line "
                     "for each cell");
    }
    std::vector<normlab::v1::Assignments> cells;
    for (const YAML::Node& node : root) {
      if (!node.IsMap() || node.size() == 0) {
        return Invalid(At(name, node.Mark()), "is no cell; write {FIELD: VALUE, ...}");
      }
      normlab::v1::Assignments& cell = cells.emplace_back();
      for (const auto& entry : node) {
        const std::string field = entry.first.as<std::string>();
        if (cell.values().contains(field)) {
          return Invalid(At(name, entry.first.Mark()),
                         absl::StrCat("gives ", field, " twice; keep one"));
        }
        (*cell.mutable_values())[field] =
            entry.second.IsScalar() ? entry.second.Scalar() : ToJsonText(entry.second);
      }
    }
    return cells;
  } catch (const YAML::Exception& error) {
    return Invalid(At(name, error.mark), absl::StrCat("cannot be read: ", error.msg));
  }
}

absl::StatusOr<std::vector<normlab::v1::Assignments>> ReadCells(const std::string& path,
                                                                std::istream& standard_input) {
  std::string text;
  if (path == "-") {
    text.assign(std::istreambuf_iterator<char>(standard_input), {});
  } else {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream content;
    if (!file || !(content << file.rdbuf())) {
      return Invalid(path, "cannot be read, or is empty; give a file with a list of cells");
    }
    text = content.str();
  }
  if (text.size() > kMaxFileBytes) {
    return Invalid(path, absl::StrCat("has ", text.size(), " bytes; use at most ", kMaxFileBytes));
  }
  return ParseCells(path == "-" ? "standard input" : path, text);
}

}  // namespace normlab::client
