#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "client/report/number_text.h"
#include "client/report/vega_chart.h"

namespace normlab::client::report {
namespace {

constexpr double kCharacter = 6.4;  // pixels of one at 11 px, on the generous side
constexpr size_t kLongestLabel = 26;
constexpr size_t kDense = 14;  // more rows make a surface, not a table

size_t Longest(const std::vector<std::string>& texts) {
  size_t longest = 0;
  for (const std::string& text : texts) {
    longest = std::max(longest, text.size());
  }
  return std::min(longest, kLongestLabel);
}

std::string TextOf(const HeatMap& body, size_t index) {
  if (index < body.texts.size()) {
    return body.texts[index];
  }
  return FormatMeasure(body.values[index]);
}

Json Signal(const std::string& expression) {
  return {{"signal", expression}};
}

// Black or white, whichever can be read on the cell's colour.
Json InkOnCell() {
  return Json::array({{{"test", "!datum.known"}, {"value", "#8a8f96"}},
                      {{"test", "luminance(scale('heat', datum.v)) > 0.28"}, {"value", "#14171a"}},
                      {{"value", "#ffffff"}}});
}

Json Cells(const HeatMap& body) {
  Json cells = Json::array();
  for (size_t row = 0; row < body.rows.size(); ++row) {
    for (size_t column = 0; column < body.columns.size(); ++column) {
      const size_t index = row * body.columns.size() + column;
      if (index >= body.values.size()) {
        continue;
      }
      const bool known = std::isfinite(body.values[index]);
      const std::string tip = absl::StrCat(body.y.title, " ", body.rows[row], "\n", body.x.title,
                                           " ", body.columns[column], "\n", body.value_title, ": ",
                                           known ? FormatMeasure(body.values[index]) : "no value");
      cells.push_back({{"r", row},
                       {"k", column},
                       {"v", known ? ChartNumber(body.values[index]) : Json(0)},
                       {"known", known},
                       {"t", TextOf(body, index)},
                       {"tip", tip}});
    }
  }
  return cells;
}

// Categories may repeat as texts: the scale is over their numbers, the labels are looked up.
Json BandScale(const char* name, size_t count, const char* size) {
  Json domain = Json::array();
  for (size_t i = 0; i < count; ++i) {
    domain.push_back(i);
  }
  return {{"name", name},
          {"type", "band"},
          {"domain", domain},
          {"range", Json::array({0, Signal(size)})},
          {"padding", count > kDense ? 0.0 : 0.04}};
}

Json BandAxis(const char* name,
              const char* where,
              const std::string& title,
              const std::vector<std::string>& labels) {
  const bool vertical = std::string(where) == "left";
  Json text = {{"text", Signal(absl::StrCat("labels_", name, "[datum.value]"))}};
  Json axis = {{"orient", where},   {"scale", name},
               {"ticks", false},    {"domain", false},
               {"grid", false},     {"labelOverlap", labels.size() > 24},
               {"labelPadding", 6}, {"titleLimit", Signal("panel + 20")}};
  if (vertical) {
    axis["labelLimit"] = Signal("left - 12");
  } else {
    axis["title"] = title;
    // Slanted, the first one reaches to the left as far as there is room: its cosine is 0.79.
    axis["labelLimit"] = Signal(
        absl::StrCat("min(", static_cast<double>(kLongestLabel) * kCharacter,
                     ", slant ? (left + panel / ", labels.size(), " / 2 - 12) / 0.79 : 1000)"));
    text["angle"] = Signal("slant ? -38 : 0");
    text["align"] = Signal("slant ? 'right' : 'center'");
    text["baseline"] = {{"value", "top"}};
  }
  axis["encode"] = {{"labels", {{"update", text}}}};
  return axis;
}

// In a picture the colours' meaning stands above the map; a page has it beside the caption.
void AddColorKey(const HeatMap& body, const Domain& domain, Json& spec) {
  Json stops = Json::array();
  const std::vector<std::string>& colors = HeatColors();
  for (size_t i = 0; i < colors.size(); ++i) {
    stops.push_back({{"offset", static_cast<double>(i) / static_cast<double>(colors.size() - 1)},
                     {"color", colors[i]}});
  }
  spec["marks"].push_back({{"type", "rect"},
                           {"encode",
                            {{"enter",
                              {{"x", Signal("total - 214")},
                               {"width", {{"value", 200}}},
                               {"y", {{"value", 12}}},
                               {"height", {{"value", 10}}},
                               {"fill",
                                {{"value",
                                  {{"gradient", "linear"},
                                   {"x1", 0},
                                   {"x2", 1},
                                   {"y1", 0},
                                   {"y2", 0},
                                   {"stops", stops}}}}}}}}}});
  const auto text = [&](const std::string& x, const char* align, const std::string& label) {
    spec["marks"].push_back(
        {{"type", "text"},
         {"encode",
          {{"enter",
            {{"x", Signal(x)},
             {"y", {{"value", 34}}},
             {"align", {{"value", align}}},
             {"text", {{"value", label}}},
             {"fontSize", {{"value", 11}}},
             {"fill", {{"value", ToneColor(Tone::kMuted, Medium::kPicture)}}}}}}}});
  };
  text("total - 214", "left", FormatMeasure(domain.low));
  text("total - 14", "right", FormatMeasure(domain.high));
  text("total - 114", "center", body.value_title);
}

}  // namespace

Json HeatMapSpec(const Chart& chart, const HeatMap& body, Medium medium) {
  const double row_room = static_cast<double>(Longest(body.rows)) * kCharacter + 16;
  const double column_label = static_cast<double>(Longest(body.columns)) * kCharacter;
  Frame frame;
  frame.least_panel = 100;
  frame.left = absl::StrCat("min(", row_room, ", total * 0.36)");
  frame.top = 28;
  frame.bottom = absl::StrCat("slant ? ", 46 + std::lround(column_label * 0.62), " : 44");
  const std::string rows = absl::StrCat(std::max<size_t>(1, body.rows.size()));
  const std::string columns = absl::StrCat(std::max<size_t>(1, body.columns.size()));
  frame.tall = body.rows.size() > kDense
                   ? "max(220, min(460, panel * 0.6))"
                   : absl::StrCat("min(", rows, " * 44, max(", rows, " * 24, panel * 0.5))");
  Json spec = BaseSpec(chart, frame, medium);
  const Json slant = {{"name", "slant"},
                      {"update", absl::StrCat("panel / ", columns, " < ", column_label + 4)}};
  // Behind the width of the panel, which it needs, and before the room below, which needs it.
  const Json labels_x = {{"name", "labels_x"}, {"value", body.columns}};
  const Json labels_y = {{"name", "labels_y"}, {"value", body.rows}};
  for (const Json& signal : {slant, labels_x, labels_y}) {
    spec["signals"].push_back(signal);
  }
  std::vector<double> finite;
  std::copy_if(body.values.begin(), body.values.end(), std::back_inserter(finite),
               [](double value) { return std::isfinite(value); });
  Domain domain{0, 1};
  if (!finite.empty()) {
    const auto [least, greatest] = std::minmax_element(finite.begin(), finite.end());
    domain = {*least, *greatest > *least ? *greatest : *least + 1};
  }
  spec["data"].push_back({{"name", "panels"}, {"values", Json::array({{{"i", 0}}})}});
  spec["data"].push_back({{"name", "cells"}, {"values", Cells(body)}});
  spec["scales"] = Json::array({{{"name", "heat"},
                                 {"type", "linear"},
                                 {"domain", {domain.low, domain.high}},
                                 {"zero", false},
                                 {"interpolate", "rgb"},
                                 {"range", HeatColors()}}});
  // A linear scale of numbers to several colours needs as many places.
  Json places = Json::array();
  for (size_t i = 0; i < HeatColors().size(); ++i) {
    const double share = static_cast<double>(i) / static_cast<double>(HeatColors().size() - 1);
    places.push_back(domain.low + share * (domain.high - domain.low));
  }
  spec["scales"][0]["domain"] = places;
  // All cells show their text, or none does.
  size_t longest_text = 0;
  for (size_t i = 0; i < body.values.size(); ++i) {
    longest_text = std::max(longest_text, TextOf(body, i).size());
  }
  const size_t room = 6 * longest_text + 2;
  Json panel = PanelGroup(frame);
  panel["scales"] = Json::array(
      {BandScale("x", body.columns.size(), "panel"), BandScale("y", body.rows.size(), "tall")});
  panel["axes"] = Json::array({BandAxis("x", "bottom", body.x.title, body.columns),
                               BandAxis("y", "left", body.y.title, body.rows)});
  const Json x = {{"scale", "x"}, {"field", "k"}};
  const Json y = {{"scale", "y"}, {"field", "r"}};
  Json cell_x = x;
  Json cell_y = y;
  cell_x["band"] = 0.5;
  cell_y["band"] = 0.5;
  panel["marks"] = Json::array(
      {TopTitle(body.y.title, 12, medium),
       {{"type", "rect"},
        {"from", {{"data", "cells"}}},
        {"encode",
         {{"update",
           {{"x", x},
            {"y", y},
            {"width", {{"scale", "x"}, {"band", 1}}},
            {"height", {{"scale", "y"}, {"band", 1}}},
            {"cornerRadius", {{"value", body.rows.size() > kDense ? 0 : 2}}},
            {"fill",
             Json::array({{{"test", "!datum.known"}, {"value", ToneColor(Tone::kGrid, medium)}},
                          {{"scale", "heat"}, {"field", "v"}}})},
            {"tooltip", {{"field", "tip"}}}}}}}},
       {{"type", "text"},
        {"from", {{"data", "cells"}}},
        {"encode",
         {{"update",
           {{"x", cell_x},
            {"y", cell_y},
            {"text", {{"field", "t"}}},
            {"align", {{"value", "center"}}},
            {"baseline", {{"value", "middle"}}},
            {"fontSize", Signal("bandwidth('x') < 46 ? 9.5 : 11")},
            {"fill", InkOnCell()},
            {"opacity", Signal("bandwidth('x') >= " + std::to_string(room) +
                               " && bandwidth('y') >= 13 ? 1 : 0")},
            {"tooltip", {{"field", "tip"}}}}}}}}});
  spec["marks"].push_back(panel);
  if (medium == Medium::kPicture) {
    AddColorKey(body, domain, spec);
    for (Json& signal : spec["signals"]) {
      if (signal["name"] == "head") {
        signal["update"] = "44";
      }
    }
  }
  return spec;
}

}  // namespace normlab::client::report
