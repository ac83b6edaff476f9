#include "client/report/vega_chart.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "client/lib/number_format.h"

namespace normlab::client::report {
namespace {

constexpr int kPictureWidth = 880;
constexpr char kFont[] =
    "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Noto Sans', 'Liberation "
    "Sans', Arial, sans-serif";

Json Signal(const std::string& name, const std::string& update) {
  return {{"name", name}, {"update", update}};
}

Json AxisTheme(Medium medium) {
  const std::string muted = ToneColor(Tone::kMuted, medium);
  const std::string grid = ToneColor(Tone::kGrid, medium);
  return {{"labelColor", muted},
          {"labelFontSize", 11},
          {"labelPadding", 5},
          {"titleColor", muted},
          {"titleFontSize", 11.5},
          {"titleFontWeight", "normal"},
          {"titlePadding", 8},
          {"gridColor", grid},
          {"domainColor", ToneColor(Tone::kReference, medium)},
          {"domainWidth", 0.8},
          {"tickColor", grid},
          {"tickSize", 4},
          {"labelOverlap", "greedy"},
          {"labelFont", kFont},
          {"titleFont", kFont}};
}

// The title and the legend of a picture, flowing over as many lines as they need. Adds marks and returns the height.
int AddPictureHead(const Chart& chart, Json& spec) {
  constexpr int kLine = 20;
  constexpr int kSwatch = 26;
  constexpr double kCharacter = 6.4;  // width of one at 12 px, on the generous side
  Json entries = Json::array();
  double x = 8;
  int y = 50;
  for (const LegendEntry& entry : MakeLegend(chart, Medium::kPicture)) {
    const double width = kSwatch + 8 + kCharacter * static_cast<double>(entry.name.size()) + 18;
    if (x > 8 && x + width > kPictureWidth) {
      x = 8;
      y += kLine;
    }
    entries.push_back({{"x", std::lround(x)},
                       {"y", y},
                       {"name", entry.name},
                       {"c", entry.color},
                       {"d", entry.dash},
                       {"line", entry.line ? 1 : 0},
                       {"shape", entry.shape.empty() ? "circle" : entry.shape},
                       {"size", entry.shape.empty() ? 0 : 55}});
    x += width;
  }
  spec["data"].push_back({{"name", "legend"}, {"values", entries}});
  const auto field = [](const char* name) { return Json{{"field", name}}; };
  const auto shifted = [](const std::string& expression) { return Json{{"signal", expression}}; };
  spec["marks"].push_back(
      {{"type", "text"},
       {"encode",
        {{"enter",
          {{"x", {{"value", 8}}},
           {"y", {{"value", 22}}},
           {"text", {{"value", chart.title}}},
           {"font", {{"value", kFont}}},
           {"fontSize", {{"value", 15}}},
           {"fontWeight", {{"value", 600}}},
           {"limit", {{"value", kPictureWidth - 16}}},
           {"fill", {{"value", ToneColor(Tone::kText, Medium::kPicture)}}}}}}}});
  spec["marks"].push_back({{"type", "rule"},
                           {"from", {{"data", "legend"}}},
                           {"encode",
                            {{"enter",
                              {{"x", field("x")},
                               {"x2", shifted("datum.x + 26")},
                               {"y", field("y")},
                               {"stroke", field("c")},
                               {"strokeWidth", {{"value", 2}}},
                               {"strokeDash", field("d")},
                               {"opacity", field("line")}}}}}});
  spec["marks"].push_back({{"type", "symbol"},
                           {"from", {{"data", "legend"}}},
                           {"encode",
                            {{"enter",
                              {{"x", shifted("datum.x + 13")},
                               {"y", field("y")},
                               {"shape", field("shape")},
                               {"size", field("size")},
                               {"fill", field("c")}}}}}});
  spec["marks"].push_back(
      {{"type", "text"},
       {"from", {{"data", "legend"}}},
       {"encode",
        {{"enter",
          {{"x", shifted("datum.x + 34")},
           {"y", field("y")},
           {"text", field("name")},
           {"font", {{"value", kFont}}},
           {"fontSize", {{"value", 12}}},
           {"baseline", {{"value", "middle"}}},
           {"fill", {{"value", ToneColor(Tone::kText, Medium::kPicture)}}}}}}}});
  return entries.empty() ? 36 : y + kLine;
}

}  // namespace

Json ChartNumber(double value) {
  if (!std::isfinite(value)) {
    return nullptr;
  }
  return std::strtod(absl::StrFormat("%.6g", value).c_str(), nullptr);
}

std::string ExpressionString(const std::string& text) {
  return FormatJsonString(text);
}

std::string NumberExpression(const std::string& value) {
  return absl::StrCat("(abs(", value, ") >= 1e9 || (", value, " != 0 && abs(", value,
                      ") < 1e-3) ? replace(format(", value, ", '.2~e'), '+', '') : abs(", value,
                      ") >= 1e4 ? format(", value, ", '.3~s') : format(", value, ", '.4~g'))");
}

Domain ChooseDomain(std::vector<double> values, Scale scale, bool may_cut) {
  const bool logarithmic = scale == Scale::kLogarithmic;
  values.erase(std::remove_if(values.begin(), values.end(),
                              [&](double value) {
                                return !std::isfinite(value) || (logarithmic && value <= 0);
                              }),
               values.end());
  if (values.empty()) {
    return logarithmic ? Domain{0.1, 10} : Domain{0, 1};
  }
  std::sort(values.begin(), values.end());
  double low = values.front();
  double high = values.back();
  // A few values of a run that explodes would press all others onto one line.
  constexpr double kUsual = 0.97;
  const double usual = values[static_cast<size_t>(kUsual * static_cast<double>(values.size() - 1))];
  if (logarithmic) {
    constexpr double kMargin = 1.15;
    constexpr double kFarAbove = 3;
    constexpr double kRoom = 1.3;
    const double decades = std::log10(usual / low);
    const bool explodes = may_cut && decades > 0 && std::log10(high / low) > kFarAbove * decades;
    return {low / kMargin, explodes ? low * std::pow(10, kRoom * decades) : high * kMargin,
            explodes};
  }
  bool cut = false;
  constexpr double kFarAbove = 8;
  constexpr double kRoom = 1.6;
  if (may_cut && usual > low && high - low > kFarAbove * (usual - low)) {
    high = low + kRoom * (usual - low);
    cut = true;
  }
  const double span = high - low;
  if (span <= 0) {
    const double half = low == 0 ? 1 : std::abs(low) / 2;
    return {low - half, high + half};
  }
  constexpr double kPadding = 0.04;
  constexpr double kNearZero = 0.35;
  Domain domain{low - kPadding * span, cut ? high : high + kPadding * span, cut};
  if (low >= 0 && low < kNearZero * high) {
    domain.low = 0;
  }
  if (high <= 0 && -high < -kNearZero * low) {
    domain.high = 0;
  }
  return domain;
}

std::vector<double> LogarithmicTicks(const Domain& domain) {
  const int first = static_cast<int>(std::floor(std::log10(domain.low)));
  const int last = static_cast<int>(std::ceil(std::log10(domain.high)));
  constexpr int kMostDecades = 6;
  const bool fine = std::log10(domain.high / domain.low) < 2;
  const int stride = std::max(1, (last - first + kMostDecades - 1) / kMostDecades);
  std::vector<double> ticks;
  for (int exponent = first; exponent <= last; ++exponent) {
    for (const double factor : {1.0, 2.0, 5.0}) {
      const double tick = factor * std::pow(10.0, exponent);
      const bool wanted = fine || (factor == 1 && exponent % stride == 0);
      if (wanted && tick >= domain.low && tick <= domain.high) {
        ticks.push_back(tick);
      }
    }
  }
  return ticks;
}

Json BaseSpec(const Chart& chart, const Frame& frame, Medium medium) {
  const bool picture = medium == Medium::kPicture;
  Json spec;
  spec["$schema"] = "https://vega.github.io/schema/vega/v5.json";
  spec["description"] = chart.title;
  spec["autosize"] = "none";
  spec["padding"] = 0;
  if (picture) {
    spec["background"] = ToneColor(Tone::kBackground, medium);
  }
  spec["config"] = {{"axis", AxisTheme(medium)}, {"text", {{"font", kFont}}}};
  spec["data"] = Json::array();
  spec["marks"] = Json::array();
  const int head = picture ? AddPictureHead(chart, spec) : 0;
  const std::string panels = absl::StrCat(frame.panels);
  spec["signals"] = Json::array(
      {{{"name", "total"}, {"value", kPictureWidth}},
       Signal("width", "total"),
       Signal("left", frame.left),
       Signal("columns", absl::StrCat("max(1, min(", panels, ", floor(total / (", frame.least_panel,
                                      " + left))))")),
       Signal("panel", absl::StrCat("max(60, total / columns - left - ", frame.right, ")")),
       Signal("tall", frame.tall),
       Signal("bottom", frame.bottom),
       Signal("cell", absl::StrCat("tall + bottom + ", frame.top)),
       Signal("head", absl::StrCat(head)),
       Signal("height", absl::StrCat("head + ceil(", panels, " / columns) * cell"))});
  return spec;
}

Json PanelGroup(const Frame& frame) {
  return {
      {"type", "group"},
      {"from", {{"data", "panels"}}},
      {"encode",
       {{"update",
         {{"x",
           {{"signal",
             absl::StrCat("(datum.i % columns) * (panel + left + ", frame.right, ") + left")}}},
          {"y", {{"signal", absl::StrCat("head + floor(datum.i / columns) * cell + ", frame.top)}}},
          {"width", {{"signal", "panel"}}},
          {"height", {{"signal", "tall"}}}}}}}};
}

Json NumberScale(const std::string& name,
                 const Domain& domain,
                 Scale scale,
                 const std::string& size) {
  const bool vertical = size == "tall";
  return {{"name", name},
          {"type", scale == Scale::kLinear ? "linear" : "log"},
          {"domain", {domain.low, domain.high}},
          {"zero", false},
          {"clamp", false},
          {"range",
           vertical ? Json::array({{{"signal", size}}, 0}) : Json::array({0, {{"signal", size}}})}};
}

Json NumberAxis(const std::string& name,
                const std::string& where,
                const std::string& other,
                const AxisStyle& style,
                const Domain& domain,
                const std::vector<double>& ticks) {
  const bool vertical = where == "left";
  Json axis = {
      {"orient", where},
      {"scale", name},
      {"grid", vertical},
      {"gridScale", other},
      {"ticks", !vertical},
      {"domain", !vertical},
      {"encode",
       {{"labels", {{"update", {{"text", {{"signal", NumberExpression("datum.value")}}}}}}}}}};
  if (!vertical) {
    axis["title"] = style.title;
    axis["titleLimit"] = {{"signal", "panel + 20"}};
  }
  if (!ticks.empty()) {
    axis["values"] = ticks;
  } else if (style.scale == Scale::kLogarithmic) {
    axis["values"] = LogarithmicTicks(domain);
  } else {
    axis["tickCount"] = {
        {"signal", vertical ? "max(2, tall / 55)" : "max(2, min(10, panel / 75))"}};
  }
  return axis;
}

Json TopTitle(const std::string& title, int above, Medium medium) {
  return {{"type", "text"},
          {"encode",
           {{"update",
             {{"x", {{"signal", medium == Medium::kPage ? "-left" : "-left + 8"}}},
              {"y", {{"value", -above}}},
              {"text", {{"value", title}}},
              {"font", {{"value", kFont}}},
              {"fontSize", {{"value", 11.5}}},
              {"limit", {{"signal", "panel + left"}}},
              {"fill", {{"value", ToneColor(Tone::kMuted, medium)}}}}}}}};
}

std::string CutOffNote(const Chart& chart) {
  const auto* lines = std::get_if<LineChart>(&chart.body);
  if (lines == nullptr) {
    return "";
  }
  const Domain domain = LineChartDomain(*lines);
  return domain.cut
             ? absl::StrCat("Values above ", absl::StrFormat("%.2g", domain.high), " are cut off.")
             : "";
}

Json MakeVegaSpec(const Chart& chart, Medium medium) {
  if (const auto* lines = std::get_if<LineChart>(&chart.body)) {
    return LineChartSpec(chart, *lines, medium);
  }
  if (const auto* map = std::get_if<HeatMap>(&chart.body)) {
    return HeatMapSpec(chart, *map, medium);
  }
  return DotChartSpec(chart, std::get<DotChart>(chart.body), medium);
}

}  // namespace normlab::client::report
