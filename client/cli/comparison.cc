#include "client/cli/comparison.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>

#include "client/cli/output.h"
#include "client/lib/number_format.h"

namespace normlab::client {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::OneofDescriptor;

constexpr size_t kMaxCurves = 26;
constexpr int kMinPlotWidth = 10;
// What lies so many times above nearly all other values is cut off; a range that is greater is logarithmic.
constexpr double kFarAbove = 10;
constexpr double kNearlyAll = 0.9;
constexpr double kLogarithmic = 30;

// Paths and values of a spec; those of chosen members of oneofs by the path of what holds the oneof.
struct FlatSpec {
  std::map<std::string, std::string> values;
  std::set<std::string> choices;
};

std::string ValueText(const Message& message, const FieldDescriptor& field, int index) {
  std::string text;
  google::protobuf::TextFormat::Printer printer;
  printer.SetSingleLineMode(true);
  printer.PrintFieldValueToString(message, &field, index, &text);
  return text;
}

void Flatten(const Message& message, const std::string& path, FlatSpec& flat) {
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    const std::string name = absl::StrCat(path, path.empty() ? "" : ".", field->name());
    const bool is_message = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
    if (field->is_repeated()) {
      const int size = reflection.FieldSize(message, field);
      std::vector<std::string> elements;
      for (int i = 0; i < size; ++i) {
        if (is_message && !field->is_map()) {
          const std::string element = absl::StrCat(name, "[", i, "]");
          flat.values[element] = "set";
          Flatten(reflection.GetRepeatedMessage(message, field, i), element, flat);
        } else {
          elements.push_back(ValueText(message, *field, i));
        }
      }
      if (!elements.empty()) {
        flat.values[name] = absl::StrCat("[", absl::StrJoin(elements, ", "), "]");
      }
      continue;
    }
    const OneofDescriptor* const oneof = field->real_containing_oneof();
    if (is_message && oneof != nullptr && !path.empty()) {
      flat.values[path] = field->name();
      flat.choices.insert(path);
    }
    if (is_message && field->message_type()->full_name() != "google.protobuf.Duration") {
      Flatten(reflection.GetMessage(message, field), name, flat);
    } else {
      flat.values[name] = ValueText(message, *field, -1);
    }
  }
}

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  void Add(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  // Where a value lies, 0 to 1. Halves first: the range of two huge values would overflow.
  double Share(double value) const {
    const double range = high / 2 - low / 2;
    return range > 0 ? (value / 2 - low / 2) / range : 0.5;
  }
};

// What is drawn of values: from where to where, and how.
struct ValueScale {
  double Place(double value) const {
    const double within = std::clamp(value, range.low, range.high);
    return logarithmic ? Range{std::log(range.low), std::log(range.high)}.Share(std::log(within))
                       : range.Share(within);
  }

  Range range;
  bool logarithmic = false;
  bool cut = false;  // some values lie above the range
};

// `values`: finite, not empty.
ValueScale ChooseScale(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  ValueScale scale;
  const auto rank = static_cast<size_t>(kNearlyAll * static_cast<double>(values.size() - 1));
  const double limit = values[rank] * kFarAbove;
  for (const double value : values) {
    scale.cut = scale.cut || (limit > 0 && value > limit);
    if (limit <= 0 || value <= limit) {
      scale.range.Add(value);
    }
  }
  scale.logarithmic = scale.range.low > 0 && scale.range.high / scale.range.low > kLogarithmic;
  return scale;
}

// The curve at a step, between its points; none beyond its ends or in a gap.
std::optional<double> ValueAt(const Curve& curve, double step) {
  const auto after =
      std::lower_bound(curve.steps.begin(), curve.steps.end(), step,
                       [](int64_t a, double b) { return static_cast<double>(a) < b; });
  if (after == curve.steps.end()) {
    return std::nullopt;
  }
  const auto index = static_cast<size_t>(after - curve.steps.begin());
  double value = curve.values[index];
  if (static_cast<double>(*after) > step) {
    if (index == 0) {
      return std::nullopt;
    }
    const auto before = static_cast<double>(curve.steps[index - 1]);
    const double share = (step - before) / (static_cast<double>(*after) - before);
    value = curve.values[index - 1] * (1 - share) + value * share;
  }
  return std::isfinite(value) ? std::optional<double>(value) : std::nullopt;
}

char LetterOf(size_t curve) {
  return static_cast<char>('a' + curve);
}

}  // namespace

std::vector<SpecDifference> CompareSpecs(const std::vector<normlab::v1::JobSpec>& specs) {
  std::vector<FlatSpec> flat(specs.size());
  std::set<std::string> paths;
  std::set<std::string> choices;
  for (size_t i = 0; i < specs.size(); ++i) {
    normlab::v1::JobSpec spec = specs[i];
    spec.clear_display_name();
    spec.clear_labels();
    spec.clear_priority();
    Flatten(spec, "", flat[i]);
    for (const auto& [path, value] : flat[i].values) {
      paths.insert(path);
    }
    choices.insert(flat[i].choices.begin(), flat[i].choices.end());
  }
  std::vector<SpecDifference> differences;
  std::vector<std::string> covered;  // by another choice
  for (const std::string& path : paths) {
    const bool is_covered =
        std::any_of(covered.begin(), covered.end(), [&](const std::string& choice) {
          return absl::StartsWith(path, choice + ".") || absl::StartsWith(path, choice + "[");
        });
    if (is_covered) {
      continue;
    }
    SpecDifference difference = {.field = path};
    bool differs = false;
    for (const FlatSpec& one : flat) {
      const auto found = one.values.find(path);
      difference.values.push_back(found == one.values.end() ? "-" : found->second);
      differs = differs || difference.values.back() != difference.values.front();
    }
    if (differs) {
      if (choices.count(path) > 0 || absl::EndsWith(path, "]")) {
        covered.push_back(path);
      }
      differences.push_back(std::move(difference));
    }
  }
  return differences;
}

std::string RenderCurves(const std::string& title,
                         const std::vector<Curve>& curves,
                         int width,
                         int height) {
  std::vector<double> values;
  Range steps;
  for (size_t c = 0; c < std::min(curves.size(), kMaxCurves); ++c) {
    for (size_t i = 0; i < curves[c].values.size(); ++i) {
      if (std::isfinite(curves[c].values[i])) {
        values.push_back(curves[c].values[i]);
        steps.Add(static_cast<double>(curves[c].steps[i]));
      }
    }
  }
  if (values.empty()) {
    return absl::StrCat(title, ": no finite value to draw\n");
  }
  const ValueScale scale = ChooseScale(std::move(values));
  const std::string top = FormatRounded(scale.range.high);
  const std::string bottom = FormatRounded(scale.range.low);
  const auto label_width = static_cast<int>(std::max(top.size(), bottom.size()));
  const int columns = std::max(kMinPlotWidth, width - label_width - 1);
  std::vector<std::string> rows(static_cast<size_t>(height),
                                std::string(static_cast<size_t>(columns), ' '));
  for (size_t c = 0; c < std::min(curves.size(), kMaxCurves); ++c) {
    for (int column = 0; column < columns; ++column) {
      const double step = steps.low + (steps.high - steps.low) * column / std::max(1, columns - 1);
      if (const std::optional<double> value = ValueAt(curves[c], step); value.has_value()) {
        const auto row = static_cast<size_t>(
            std::lround((1 - scale.Place(*value)) * static_cast<double>(height - 1)));
        rows[row][static_cast<size_t>(column)] = LetterOf(c);
      }
    }
  }
  std::string text = absl::StrCat(title, scale.logarithmic ? " (logarithmic)" : "", "\n");
  for (int row = 0; row < height; ++row) {
    const bool is_end = row == 0 || row == height - 1;
    const std::string label = row == 0 ? top : row == height - 1 ? bottom : "";
    std::string line =
        absl::StrCat(std::string(static_cast<size_t>(label_width) - label.size(), ' '), label,
                     is_end ? "+" : "|", rows[static_cast<size_t>(row)]);
    line.erase(line.find_last_not_of(' ') + 1);
    absl::StrAppend(&text, line, "\n");
  }
  const std::string left = absl::StrCat("step ", static_cast<int64_t>(steps.low));
  const std::string right = absl::StrCat(static_cast<int64_t>(steps.high));
  const int room = std::max(1, columns - static_cast<int>(left.size() + right.size()));
  absl::StrAppend(&text, std::string(static_cast<size_t>(label_width) + 1, ' '), left,
                  std::string(static_cast<size_t>(room), ' '), right, "\n");
  for (size_t c = 0; c < std::min(curves.size(), kMaxCurves); ++c) {
    absl::StrAppend(&text, "  ", std::string(1, LetterOf(c)), "  ", Printable(curves[c].name),
                    "\n");
  }
  if (scale.cut) {
    absl::StrAppend(&text, "  values above ", top, " are drawn at the top\n");
  }
  if (curves.size() > kMaxCurves) {
    absl::StrAppend(&text, "  and ", curves.size() - kMaxCurves, " more, which are not drawn\n");
  }
  return text;
}

}  // namespace normlab::client
