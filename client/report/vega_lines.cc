#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "client/report/downsample.h"
#include "client/report/vega_chart.h"

namespace normlab::client::report {
namespace {

// A chart of more points than a screen has pixels only takes time; these keep a page of 200 lines quick.
constexpr size_t kPointsOfAChart = 20000;
constexpr size_t kMostPointsOfALine = 400;
constexpr size_t kFewestPointsOfALine = 60;
// Symbols tell lines apart that colours may not; on each of so many lines they would hide them.
constexpr size_t kMostLinesWithSymbols = 24;
constexpr size_t kSymbolsOfALine = 7;
// So few different x (batch sizes, depths) are labelled each.
constexpr size_t kFewPlaces = 9;

bool Shown(double value, Scale scale) {
  return std::isfinite(value) && (scale == Scale::kLinear || value > 0);
}

double At(const std::vector<double>& values, size_t index) {
  return index < values.size() ? values[index] : NAN;
}

// The points of a line, thinned out.
Json Points(const Line& line, const LineChart& chart, const Domain& y_domain) {
  const size_t allowed = std::clamp(kPointsOfAChart / std::max<size_t>(1, chart.lines.size()),
                                    kFewestPointsOfALine, kMostPointsOfALine);
  Json points = Json::array();
  for (const size_t i : ChoosePoints(line, chart.x.scale, allowed)) {
    Json point = {{"x", ChartNumber(line.x[i])}};
    if (Shown(line.y[i], chart.y.scale)) {
      point["y"] = ChartNumber(line.y[i]);
    }
    double low = At(line.low, i);
    const double high = At(line.high, i);
    if (Shown(high, chart.y.scale) && std::isfinite(low)) {
      if (!Shown(low, chart.y.scale)) {
        low = y_domain.low;  // the logarithm of what is not positive lies below every axis
      }
      point["a"] = ChartNumber(low);
      point["b"] = ChartNumber(high);
    }
    points.push_back(std::move(point));
  }
  return points;
}

// A few of `points` to carry a symbol and an explanation, at other places for every line; all of a short line.
Json Symbols(const Json& points, size_t index) {
  std::vector<size_t> shown;
  for (size_t i = 0; i < points.size(); ++i) {
    if (points[i].contains("y")) {
      shown.push_back(i);
    }
  }
  Json symbols = Json::array();
  if (shown.size() <= 2 * kSymbolsOfALine) {
    for (const size_t i : shown) {
      symbols.push_back(points[i]);
    }
    return symbols;
  }
  constexpr size_t kPhases = 5;
  const double stride =
      static_cast<double>(shown.size() - 1) / static_cast<double>(kSymbolsOfALine);
  const double phase = static_cast<double>(index % kPhases) / kPhases;
  for (size_t k = 0; k < kSymbolsOfALine; ++k) {
    const auto at = static_cast<size_t>((static_cast<double>(k) + 0.3 + 0.6 * phase) * stride);
    symbols.push_back(points[shown[std::min(at, shown.size() - 1)]]);
  }
  return symbols;
}

size_t IndexOf(const std::vector<std::string>& names, const std::string& name) {
  return static_cast<size_t>(std::find(names.begin(), names.end(), name) - names.begin());
}

// The data set "panels": each with its lines, each with its points.
Json Panels(const LineChart& chart,
            const std::vector<std::string>& facets,
            const Domain& y_domain,
            Medium medium) {
  const std::vector<std::string> names = Categories(chart);
  std::vector<std::string> references;
  Json panels = Json::array();
  for (size_t p = 0; p < facets.size(); ++p) {
    Json lines = Json::array();
    // References on top: a closed form is drawn to be compared with.
    for (const bool reference : {false, true}) {
      for (size_t i = 0; i < chart.lines.size(); ++i) {
        const Line& line = chart.lines[i];
        if (line.reference != reference ||
            (!chart.facets.empty() && chart.facets[i] != facets[p])) {
          continue;
        }
        Json points = Points(line, chart, y_domain);
        Json entry = {{"name", line.name}};
        if (reference) {
          size_t index = IndexOf(references, line.name);
          if (index == references.size()) {
            references.push_back(line.name);
          }
          entry["c"] = ToneColor(Tone::kReference, medium);
          entry["d"] = ReferenceDash(index);
          entry["w"] = 1.6;
          entry["symbols"] = Json::array();
        } else {
          const size_t index = IndexOf(names, line.name);
          entry["c"] = CategoryColor(index, medium);
          entry["d"] = Json::array();
          entry["w"] = chart.lines.size() > kMostLinesWithSymbols ? 1.1 : 1.8;
          entry["shape"] = CategoryShape(index);
          entry["symbols"] =
              chart.lines.size() > kMostLinesWithSymbols ? Json::array() : Symbols(points, index);
        }
        entry["points"] = std::move(points);
        lines.push_back(std::move(entry));
      }
    }
    panels.push_back({{"i", p}, {"title", facets[p]}, {"lines", std::move(lines)}});
  }
  return panels;
}

Json Parent(const char* name) {
  return {{"field", {{"parent", name}}}};
}
Json Scaled(const char* scale, const char* field) {
  return {{"scale", scale}, {"field", field}};
}

// Marks of all lines of a panel: bands below, then curves, then symbols. Each is a group for each line, with its points.
Json LineMarks(const LineChart& chart, Medium medium) {
  const std::string place = ExpressionString(chart.x.title.empty() ? "x" : chart.x.title);
  const Json explanation = {
      {"signal", "parent.name + (parent.name ? '\\n' : '') + " + place + " + ' ' + " +
                     NumberExpression("datum.x") + " + ': ' + " + NumberExpression("datum.y") +
                     " + (isValid(datum.a) ? ' [' + " + NumberExpression("datum.a") + " + ', ' + " +
                     NumberExpression("datum.b") + " + ']' : '')"}};
  const auto facet = [](const char* name, const char* field) {
    return Json{{"facet", {{"name", name}, {"data", "lines"}, {"field", field}}}};
  };
  return Json::array(
      {{{"type", "group"},
        {"from", facet("band", "points")},
        {"marks",
         Json::array({{{"type", "area"},
                       {"from", {{"data", "band"}}},
                       {"encode",
                        {{"update",
                          {{"x", Scaled("x", "x")},
                           {"y", Scaled("y", "b")},
                           {"y2", Scaled("y", "a")},
                           {"defined", {{"signal", "isValid(datum.a) && isValid(datum.b)"}}},
                           {"fill", Parent("c")},
                           {"fillOpacity", {{"value", 0.16}}}}}}}}})}},
       {{"type", "group"},
        {"from", facet("curve", "points")},
        {"marks", Json::array({{{"type", "line"},
                                {"from", {{"data", "curve"}}},
                                {"encode",
                                 {{"update",
                                   {{"x", Scaled("x", "x")},
                                    {"y", Scaled("y", "y")},
                                    {"defined", {{"signal", "isValid(datum.y)"}}},
                                    {"stroke", Parent("c")},
                                    {"strokeWidth", Parent("w")},
                                    {"strokeDash", Parent("d")},
                                    {"strokeJoin", {{"value", "round"}}},
                                    {"tooltip", {{"signal", "parent.name"}}}}}}}}})}},
       {{"type", "group"},
        {"from", facet("dots", "symbols")},
        {"marks", Json::array({{{"type", "symbol"},
                                {"from", {{"data", "dots"}}},
                                {"encode",
                                 {{"update",
                                   {{"x", Scaled("x", "x")},
                                    {"y", Scaled("y", "y")},
                                    {"shape", Parent("shape")},
                                    {"size", {{"value", 38}}},
                                    {"fill", Parent("c")},
                                    {"stroke", {{"value", ToneColor(Tone::kBackground, medium)}}},
                                    {"strokeWidth", {{"value", 0.8}}},
                                    {"tooltip", explanation}}}}}}})}}});
}

// Places of all points when they are few: then each gets a label.
std::vector<double> FewPlaces(const LineChart& chart) {
  std::set<double> places;
  for (const Line& line : chart.lines) {
    for (const double x : line.x) {
      if (!line.reference && Shown(x, chart.x.scale)) {
        places.insert(x);
      }
      if (places.size() > kFewPlaces) {
        return {};
      }
    }
  }
  return {places.begin(), places.end()};
}

}  // namespace

Domain LineChartDomain(const LineChart& body) {
  std::vector<double> values;
  for (const Line& line : body.lines) {
    for (const auto* part : {&line.y, &line.low, &line.high}) {
      values.insert(values.end(), part->begin(), part->end());
    }
  }
  return ChooseDomain(std::move(values), body.y.scale, true);
}

Json LineChartSpec(const Chart& chart, const LineChart& body, Medium medium) {
  std::vector<double> places;
  for (const Line& line : body.lines) {
    places.insert(places.end(), line.x.begin(), line.x.end());
  }
  Domain x_domain = ChooseDomain(places, body.x.scale, false);
  if (body.x.scale == Scale::kLinear) {  // steps begin and end at the edges
    double low = INFINITY;
    double high = -INFINITY;
    for (const double x : places) {
      if (std::isfinite(x)) {
        low = std::min(low, x);
        high = std::max(high, x);
      }
    }
    if (low < high) {
      x_domain.low = x_domain.low == 0 ? 0 : low;
      x_domain.high = high;
    }
  }
  const Domain y_domain = LineChartDomain(body);
  std::vector<std::string> facets;
  for (const std::string& facet : body.facets) {
    if (std::find(facets.begin(), facets.end(), facet) == facets.end()) {
      facets.push_back(facet);
    }
  }
  const bool faceted = !facets.empty();
  if (!faceted) {
    facets.emplace_back();
  }
  Frame frame;
  frame.panels = static_cast<int>(facets.size());
  frame.top = faceted ? 50 : 28;
  frame.least_panel = 230;
  if (faceted) {
    frame.tall = "max(130, min(240, panel * 0.6))";
  }
  Json spec = BaseSpec(chart, frame, medium);
  spec["data"].push_back({{"name", "panels"}, {"values", Panels(body, facets, y_domain, medium)}});
  Json panel = PanelGroup(frame);
  panel["scales"] = Json::array({NumberScale("x", x_domain, body.x.scale, "panel"),
                                 NumberScale("y", y_domain, body.y.scale, "tall")});
  panel["axes"] = Json::array({NumberAxis("y", "left", "x", body.y, y_domain, {}),
                               NumberAxis("x", "bottom", "y", body.x, x_domain, FewPlaces(body))});
  panel["marks"] = Json::array(
      {TopTitle(body.y.title, 12, medium),
       {{"type", "group"},
        {"clip", true},
        {"encode",
         {{"update", {{"width", {{"signal", "panel"}}}, {"height", {{"signal", "tall"}}}}}}},
        {"marks", LineMarks(body, medium)}}});
  panel["from"] = {{"facet", {{"name", "lines"}, {"data", "panels"}, {"field", "lines"}}}};
  if (faceted) {
    Json title = TopTitle("", 30, medium);
    title["encode"]["update"]["text"] = {{"signal", "parent.title"}};
    title["encode"]["update"]["fontWeight"] = {{"value", 600}};
    title["encode"]["update"]["fontSize"] = {{"value", 12.5}};
    title["encode"]["update"]["fill"] = {{"value", ToneColor(Tone::kText, medium)}};
    panel["marks"].push_back(title);
  }
  spec["marks"].push_back(panel);
  return spec;
}

}  // namespace normlab::client::report
