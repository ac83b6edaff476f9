#include "client/report/chart_style.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <variant>

#include "absl/strings/str_cat.h"

namespace normlab::client::report {
namespace {

constexpr size_t kColors = 8;
// Okabe and Ito's palette, darkened where it would be too faint on white. The page's style sheet has the same as --c1 to
// --c8, and lighter ones for dark.
constexpr std::array<const char*, kColors> kLightColors = {
    "#0a68ac", "#cf4f0e", "#0a8a66", "#b04a8a", "#b87e00", "#5b4bb5", "#3a95c9", "#666a70"};

struct Shape {
  const char* name;
  const char* path;
};
constexpr std::array<Shape, kColors> kShapes = {{
    {"circle", "M4,0A4,4,0,1,1,-4,0A4,4,0,1,1,4,0Z"},
    {"square", "M-3.5,-3.5H3.5V3.5H-3.5Z"},
    {"triangle-up", "M0,-4.2L4.4,3.6H-4.4Z"},
    {"diamond", "M0,-5L4,0L0,5L-4,0Z"},
    {"cross", "M-1.5,-4.5H1.5V-1.5H4.5V1.5H1.5V4.5H-1.5V1.5H-4.5V-1.5H-1.5Z"},
    {"triangle-down", "M0,4.2L4.4,-3.6H-4.4Z"},
    {"triangle-right", "M4.2,0L-3.6,4.4V-4.4Z"},
    {"triangle-left", "M-4.2,0L3.6,4.4V-4.4Z"},
}};

template <typename Items, typename Name>
std::vector<std::string> Distinct(const Items& items, Name name) {
  std::vector<std::string> names;
  for (const auto& item : items) {
    const std::string* const text = name(item);
    if (text != nullptr && std::find(names.begin(), names.end(), *text) == names.end()) {
      names.push_back(*text);
    }
  }
  return names;
}

std::vector<LegendEntry> LegendOf(const LineChart& chart, Medium medium) {
  std::vector<LegendEntry> legend;
  const std::vector<std::string> names = Categories(chart);
  const bool one_curve = chart.lines.size() == 1 && chart.lines[0].name.empty();
  if (one_curve) {
    return legend;
  }
  for (size_t i = 0; i < names.size(); ++i) {
    const bool band = std::any_of(chart.lines.begin(), chart.lines.end(), [&](const Line& line) {
      return !line.reference && line.name == names[i] && !line.low.empty();
    });
    legend.push_back({.name = names[i],
                      .color = CategoryColor(i, medium),
                      .shape = CategoryShape(i),
                      .band = band});
  }
  const std::vector<std::string> references =
      Distinct(chart.lines, [](const Line& line) { return line.reference ? &line.name : nullptr; });
  for (size_t i = 0; i < references.size(); ++i) {
    legend.push_back({.name = references[i],
                      .color = ToneColor(Tone::kReference, medium),
                      .dash = ReferenceDash(i)});
  }
  return legend;
}

std::vector<LegendEntry> LegendOf(const DotChart& chart, Medium medium) {
  std::vector<LegendEntry> legend;
  const std::vector<std::string> names = Categories(chart);
  if (names.size() == 1 && names[0].empty()) {
    return legend;
  }
  for (size_t i = 0; i < names.size(); ++i) {
    legend.push_back({.name = names[i],
                      .color = CategoryColor(i, medium),
                      .shape = CategoryShape(i),
                      .line = false});
  }
  return legend;
}

}  // namespace

std::string ToneColor(Tone tone, Medium medium) {
  const bool page = medium == Medium::kPage;
  switch (tone) {
    case Tone::kText:
      return page ? "var(--ink)" : "#1c2024";
    case Tone::kMuted:
      return page ? "var(--muted)" : "#5d646d";
    case Tone::kGrid:
      return page ? "var(--grid)" : "#e7e9ec";
    case Tone::kReference:
      return page ? "var(--reference)" : "#747b84";
    case Tone::kBackground:
      break;
  }
  return page ? "var(--paper)" : "#ffffff";
}

std::string CategoryColor(size_t index, Medium medium) {
  return medium == Medium::kPage ? absl::StrCat("var(--c", index % kColors + 1, ")")
                                 : kLightColors[index % kColors];
}

std::string CategoryShape(size_t index) {
  return kShapes[(index + index / kColors) % kColors].name;
}

std::string ShapePath(absl::string_view shape) {
  const auto* const found = std::find_if(kShapes.begin(), kShapes.end(),
                                         [&](const Shape& known) { return known.name == shape; });
  return found == kShapes.end() ? kShapes[0].path : found->path;
}

std::vector<int> ReferenceDash(size_t index) {
  static const std::vector<std::vector<int>>& dashes =
      *new std::vector<std::vector<int>>{{6, 4}, {2, 3}, {10, 3, 2, 3}, {12, 5}, {4, 2, 1, 2}};
  return dashes[index % dashes.size()];
}

const std::vector<std::string>& HeatColors() {
  static const std::vector<std::string>& colors =
      *new std::vector<std::string>{"#00224e", "#123570", "#3b496c", "#575d6d", "#707173",
                                    "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838"};
  return colors;
}

std::vector<LegendEntry> MakeLegend(const Chart& chart, Medium medium) {
  if (const auto* lines = std::get_if<LineChart>(&chart.body)) {
    return LegendOf(*lines, medium);
  }
  if (const auto* dots = std::get_if<DotChart>(&chart.body)) {
    return LegendOf(*dots, medium);
  }
  return {};
}

std::vector<std::string> Categories(const LineChart& chart) {
  return Distinct(chart.lines,
                  [](const Line& line) { return line.reference ? nullptr : &line.name; });
}

std::vector<std::string> Categories(const DotChart& chart) {
  return Distinct(chart.dots, [](const DotChart::Dot& dot) { return &dot.group; });
}

}  // namespace normlab::client::report
