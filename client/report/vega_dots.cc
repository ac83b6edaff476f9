#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "client/report/number_text.h"
#include "client/report/vega_chart.h"

namespace normlab::client::report {
namespace {

constexpr double kCharacter = 6.4;    // pixels of one at 11 px, on the generous side
constexpr size_t kLongestLabel = 46;  // of a category beside its row; longer ones are cut
constexpr size_t kShortLabel = 7;     // such names stand below columns
constexpr size_t kMostColumns = 10;   // more categories lie in rows

Json Signal(const std::string& expression) {
  return {{"signal", expression}};
}

std::vector<std::string> Names(const DotChart& body) {
  std::vector<std::string> names;
  for (const DotChart::Dot& dot : body.dots) {
    if (std::find(names.begin(), names.end(), dot.category) == names.end()) {
      names.push_back(dot.category);
    }
  }
  return names;
}

size_t IndexOf(const std::vector<std::string>& names, const std::string& name) {
  return static_cast<size_t>(std::find(names.begin(), names.end(), name) - names.begin());
}

Json Dots(const DotChart& body, const std::vector<std::string>& names, Medium medium) {
  const std::vector<std::string> groups = Categories(body);
  Json dots = Json::array();
  for (const DotChart::Dot& dot : body.dots) {
    const size_t group = IndexOf(groups, dot.group);
    std::string tip =
        dot.group.empty() ? dot.category : absl::StrCat(dot.category, ", ", dot.group);
    absl::StrAppend(&tip, "\n", body.y.title, ": ", FormatMeasure(dot.value));
    Json entry = {{"k", IndexOf(names, dot.category)},
                  // Groups stand beside each other, so that intervals do not cover each other.
                  {"at", (static_cast<double>(group) + 0.5) / static_cast<double>(groups.size())},
                  {"c", CategoryColor(group, medium)},
                  {"shape", CategoryShape(group)}};
    const bool logarithmic = body.y.scale == Scale::kLogarithmic;
    const auto shown = [&](double value) {
      return std::isfinite(value) && (!logarithmic || value > 0);
    };
    if (shown(dot.value)) {
      entry["v"] = ChartNumber(dot.value);
    }
    if (dot.interval.has_value()) {
      absl::StrAppend(&tip, " [", FormatMeasure(dot.interval->low), ", ",
                      FormatMeasure(dot.interval->high), "]");
      if (shown(dot.interval->low) && shown(dot.interval->high)) {
        entry["a"] = ChartNumber(dot.interval->low);
        entry["b"] = ChartNumber(dot.interval->high);
      }
    }
    Json seeds = Json::array();
    for (const double seed : dot.seeds) {
      if (shown(seed)) {
        seeds.push_back({{"v", ChartNumber(seed)}});
      }
    }
    if (dot.seeds.size() > 1) {
      absl::StrAppend(&tip, "\n", dot.seeds.size(), " seeds");
    }
    entry["tip"] = tip;
    entry["seeds"] = std::move(seeds);
    dots.push_back(std::move(entry));
  }
  return dots;
}

Domain ValueDomain(const DotChart& body) {
  std::vector<double> values;
  for (const DotChart::Dot& dot : body.dots) {
    values.push_back(dot.value);
    values.insert(values.end(), dot.seeds.begin(), dot.seeds.end());
    if (dot.interval.has_value()) {
      values.insert(values.end(), {dot.interval->low, dot.interval->high});
    }
  }
  return ChooseDomain(std::move(values), body.y.scale, false);
}

// How the two directions are called where categories lie along x (columns), or along y (rows).
struct Direction {
  bool rows = false;
  std::string category;  // channel
  std::string value;
  std::string category_axis;
  std::string value_axis;
  std::string category_size;
  std::string value_size;
};

Json Marks(const Direction& direction, Medium medium) {
  const Json place = Signal("scale('category', datum.k) + bandwidth('category') * datum.at");
  // Beside the interval, which would hide them.
  const Json seed_place =
      Signal("scale('category', parent.k) + bandwidth('category') * parent.at + 7");
  const auto on_scale = [](const char* field) {
    return Json{{"scale", "value"}, {"field", field}};
  };
  const std::string& category = direction.category;
  const std::string& value = direction.value;
  Json interval = {{category, place},
                   {value, on_scale("a")},
                   {value + "2", on_scale("b")},
                   {"stroke", {{"field", "c"}}},
                   {"strokeWidth", {{"value", 2.2}}},
                   {"strokeCap", {{"value", "round"}}},
                   {"opacity", Signal("isValid(datum.a) ? 1 : 0")},
                   {"tooltip", {{"field", "tip"}}}};
  Json seed = {{category, seed_place},
               {value, on_scale("v")},
               {"size", {{"value", 16}}},
               {"fill", {{"field", {{"parent", "c"}}}}},
               {"fillOpacity", {{"value", 0.38}}}};
  Json mean = {{category, place},
               {value, on_scale("v")},
               {"shape", {{"field", "shape"}}},
               {"size", {{"value", 72}}},
               {"fill", {{"field", "c"}}},
               {"stroke", {{"value", ToneColor(Tone::kBackground, medium)}}},
               {"strokeWidth", {{"value", 1}}},
               {"opacity", Signal("isValid(datum.v) ? 1 : 0")},
               {"tooltip", {{"field", "tip"}}}};
  return Json::array(
      {{{"type", "rule"}, {"from", {{"data", "dots"}}}, {"encode", {{"update", interval}}}},
       {{"type", "group"},
        {"from", {{"facet", {{"name", "seeds"}, {"data", "dots"}, {"field", "seeds"}}}}},
        {"marks", Json::array({{{"type", "symbol"},
                                {"from", {{"data", "seeds"}}},
                                {"encode", {{"update", seed}}}}})}},
       {{"type", "symbol"}, {"from", {{"data", "dots"}}}, {"encode", {{"update", mean}}}}});
}

Json CategoryAxis(const Direction& direction, const AxisStyle& style) {
  Json axis = {{"orient", direction.category_axis},
               {"scale", "category"},
               {"ticks", false},
               {"grid", false},
               {"domain", !direction.rows},
               {"labelOverlap", false},
               {"labelPadding", 8},
               {"encode", {{"labels", {{"update", {{"text", Signal("labels[datum.value]")}}}}}}}};
  if (direction.rows) {
    axis["labelLimit"] = Signal("left - 14");
  } else {
    axis["title"] = style.title;
    axis["titleLimit"] = Signal("panel + 20");
  }
  return axis;
}

}  // namespace

Json DotChartSpec(const Chart& chart, const DotChart& body, Medium medium) {
  const std::vector<std::string> names = Names(body);
  size_t longest = 0;
  for (const std::string& name : names) {
    longest = std::max(longest, name.size());
  }
  const size_t groups = std::max<size_t>(1, Categories(body).size());
  Direction direction;
  direction.rows = longest > kShortLabel || names.size() > kMostColumns;
  Frame frame;
  frame.least_panel = 100;
  if (direction.rows) {
    direction = {true, "y", "x", "left", "bottom", "tall", "panel"};
    const double room = static_cast<double>(std::min(longest, kLongestLabel)) * kCharacter + 18;
    frame.left = absl::StrCat("min(", room, ", total * 0.42)");
    frame.tall =
        absl::StrCat(std::max<size_t>(2, names.size()) * std::max<size_t>(32, 18 * groups));
  } else {
    direction = {false, "x", "y", "bottom", "left", "panel", "tall"};
    frame.top = 28;
  }
  Json spec = BaseSpec(chart, frame, medium);
  spec["signals"].push_back({{"name", "labels"}, {"value", names}});
  spec["data"].push_back({{"name", "panels"}, {"values", Json::array({{{"i", 0}}})}});
  spec["data"].push_back({{"name", "dots"}, {"values", Dots(body, names, medium)}});
  Json places = Json::array();
  for (size_t i = 0; i < names.size(); ++i) {
    places.push_back(i);
  }
  const Domain domain = ValueDomain(body);
  Json panel = PanelGroup(frame);
  panel["scales"] = Json::array({{{"name", "category"},
                                  {"type", "band"},
                                  {"domain", places},
                                  {"range", Json::array({0, Signal(direction.category_size)})},
                                  {"padding", 0.2}},
                                 NumberScale("value", domain, body.y.scale, direction.value_size)});
  Json value_axis = NumberAxis("value", direction.value_axis, "category", body.y, domain, {});
  value_axis["grid"] = true;
  panel["axes"] = Json::array({value_axis, CategoryAxis(direction, body.x)});
  panel["marks"] = Marks(direction, medium);
  panel["marks"].push_back(TopTitle(direction.rows ? body.x.title : body.y.title, 12, medium));
  spec["marks"].push_back(panel);
  return spec;
}

}  // namespace normlab::client::report
