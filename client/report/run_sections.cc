#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "client/report/run_curves.h"
#include "client/report/runs.h"

namespace normlab::client::report {
namespace {

// A report that nobody asked for particular series in stays readable.
constexpr size_t kMostCharts = 16;
constexpr size_t kMostFacets = 12;
constexpr size_t kMostSurfaces = 6;

std::string Lower(std::string text) {
  if (text.size() > 1 && absl::ascii_islower(static_cast<unsigned char>(text[1]))) {
    text[0] = absl::ascii_tolower(static_cast<unsigned char>(text[0]));
  }
  return text;
}

std::string ChartId(const std::string& series) {
  return absl::StrReplaceAll(series, {{"/", "-"}, {"*", "all"}, {",", "_"}});
}

// What the lines and bands of a chart of curves are.
std::string CurveCaption(const RunSet& set, double window) {
  size_t most = 0;
  for (const RunGroup& group : set.groups) {
    most = std::max(most, static_cast<size_t>(
                              std::count_if(group.runs.begin(), group.runs.end(),
                                            [](const RunData& run) { return run.succeeded(); })));
  }
  std::string caption =
      most > 1
          ? "Mean over the seeds that succeeded; the band reaches from the lowest to the highest."
          : "";
  if (window > 1) {
    absl::StrAppend(&caption, caption.empty() ? "" : " ", "Each point is the mean over ",
                    static_cast<int64_t>(window), " steps.");
  }
  if (set.sampled) {
    absl::StrAppend(&caption, caption.empty() ? "" : " ",
                    "Long series were thinned out, keeping least and greatest values.");
  }
  return caption;
}

Chart CurveChart(const RunSet& set, const std::string& series) {
  const double window = ChooseWindow(set, series);
  LineChart body;
  for (const RunGroup& group : set.groups) {
    std::vector<Line> lines = CurvesOf(group, series, window);
    std::move(lines.begin(), lines.end(), std::back_inserter(body.lines));
  }
  body.x = {.title = "step"};
  body.y = {.title = Lower(SeriesTitle(series)), .scale = ChooseScale(body.lines)};
  return {.id = ChartId(series),
          .title = SeriesTitle(series),
          .caption = CurveCaption(set, window),
          .body = std::move(body)};
}

// A band from the least to the greatest value along the gradient (Santurkar et al. 2018, Fig. 4), mean over seeds of each.
Chart BandChart(const RunSet& set, const std::string& what) {
  LineChart body;
  for (const RunGroup& group : set.groups) {
    const std::vector<Line> low = CurvesOf(group, absl::StrCat("landscape/", what, "_min"), 0);
    const std::vector<Line> high = CurvesOf(group, absl::StrCat("landscape/", what, "_max"), 0);
    for (size_t l = 0; l < low.size() && l < high.size(); ++l) {
      Line line;
      line.name = low[l].name;
      for (size_t i = 0; i < low[l].x.size() && i < high[l].x.size(); ++i) {
        line.x.push_back(low[l].x[i]);
        line.low.push_back(low[l].y[i]);
        line.high.push_back(high[l].y[i]);
        line.y.push_back(low[l].y[i] > 0 ? std::sqrt(low[l].y[i] * high[l].y[i])
                                         : (low[l].y[i] + high[l].y[i]) / 2);
      }
      body.lines.push_back(std::move(line));
    }
  }
  const std::string title =
      what == "loss" ? "Loss along the gradient"
                     : "Gradient predictiveness: how far the gradient changes along itself";
  body.x = {.title = "step"};
  body.y = {.title = what == "loss" ? "loss" : "l2 distance of the gradients",
            .scale = ChooseScale(body.lines)};
  return {.id = absl::StrCat("landscape-", what),
          .title = title,
          .caption =
              "The band is the range over the step sizes of the probe (Santurkar et al. 2018, Fig. "
              "4), the line its "
              "geometric mean; both are means over seeds.",
          .body = std::move(body)};
}

// Whether the text is a number, and which.
bool ParseNumber(absl::string_view text, double* value) {
  const auto end = std::from_chars(text.data(), text.data() + text.size(), *value);
  return end.ec == std::errc() && end.ptr == text.data() + text.size();
}

// Names in the order of people: layer2 before layer10.
bool NaturalLess(const std::string& a, const std::string& b) {
  const auto key = [](const std::string& text) {
    std::string padded;
    for (size_t i = 0; i < text.size();) {
      size_t end = i;
      while (end < text.size() && absl::ascii_isdigit(static_cast<unsigned char>(text[end]))) {
        ++end;
      }
      if (end > i) {
        padded += std::string(12 - std::min<size_t>(12, end - i), '0') + text.substr(i, end - i);
        i = end;
      } else {
        padded += text[i++];
      }
    }
    return padded;
  };
  return key(a) < key(b);
}

// Panels by group, lines by layer.
Chart LayerChart(const RunSet& set, const std::string& quantity, std::vector<std::string> layers) {
  std::sort(layers.begin(), layers.end(), NaturalLess);
  LineChart body;
  for (const RunGroup& group : set.groups) {
    for (const std::string& layer : layers) {
      for (Line& line : CurvesOf(group, absl::StrCat("layers/", layer, "/", quantity), 0)) {
        const std::string suffix = line.name.substr(std::min(group.name.size(), line.name.size()));
        line.name = layer;
        body.facets.push_back(absl::StrCat(group.name, suffix));
        body.lines.push_back(std::move(line));
      }
    }
  }
  body.x = {.title = "step"};
  body.y = {.title = Lower(absl::StrReplaceAll(quantity, {{"_", " "}})),
            .scale = ChooseScale(body.lines)};
  return {.id = absl::StrCat("layers-", quantity),
          .title = SeriesTitle(quantity),
          .caption = CurveCaption(set, 0),
          .body = std::move(body)};
}

// The loss around the final weights of one job.
std::optional<Chart> SurfaceChart(const RunGroup& group, size_t index) {
  const auto run = std::find_if(group.runs.begin(), group.runs.end(), [](const RunData& candidate) {
    const auto first = candidate.series.lower_bound("loss_surface/");
    return first != candidate.series.end() && absl::StartsWith(first->first, "loss_surface/");
  });
  if (run == group.runs.end()) {
    return std::nullopt;
  }
  std::map<double, std::map<double, double>> values;  // by y, then x
  std::map<double, bool> columns;
  for (const auto& [name, points] : run->series) {
    absl::string_view place = name;
    if (!absl::ConsumePrefix(&place, "loss_surface/") || points.values.empty()) {
      continue;
    }
    const std::vector<absl::string_view> parts = absl::StrSplit(place, ',');
    double x = 0;
    double y = 0;
    if (ParseNumber(parts[0], &x) && (parts.size() < 2 || ParseNumber(parts[1], &y))) {
      values[y][x] = points.values.back();
      columns[x] = true;
    }
  }
  const std::string id = absl::StrCat("loss-surface-", index + 1);
  const std::string title = absl::StrCat("Loss around the final weights: ", group.name);
  const std::string caption =
      "Along random directions whose filters have the norms of the weights' (Li et al. 2018), with "
      "running statistics; first seed.";
  if (values.size() == 1) {
    Line line;
    for (const auto& [x, loss] : values.begin()->second) {
      line.x.push_back(x);
      line.y.push_back(loss);
    }
    LineChart body{
        .x = {.title = "distance along the direction"}, .y = {.title = "loss"}, .lines = {line}};
    return Chart{.id = id, .title = title, .caption = caption, .body = std::move(body)};
  }
  HeatMap body{.x = {.title = "direction 1"}, .y = {.title = "direction 2"}, .value_title = "loss"};
  for (const auto& [x, used] : columns) {
    body.columns.push_back(absl::StrFormat("%.2g", x));
  }
  for (auto row = values.rbegin(); row != values.rend(); ++row) {  // up is greater
    body.rows.push_back(absl::StrFormat("%.2g", row->first));
    for (const auto& [x, used] : columns) {
      const auto found = row->second.find(x);
      body.values.push_back(found == row->second.end() ? std::numeric_limits<double>::quiet_NaN()
                                                       : found->second);
    }
  }
  return Chart{.id = id, .title = title, .caption = caption, .body = std::move(body)};
}

}  // namespace

Section CurveSection(const RunSet& set, const RunReportOptions& options) {
  Section section{.title = "Curves"};
  std::map<std::string, int> bands;
  for (const std::string& series : AllSeries(set)) {
    absl::string_view what = series;
    if (!IsWanted(series, options) || absl::StartsWith(series, "layers/") ||
        absl::StartsWith(series, "loss_surface/")) {
      continue;
    }
    if (section.charts.size() >= kMostCharts && options.series.empty()) {
      section.text = "There are more series than are drawn here: choose some with --series.";
      break;
    }
    if (absl::ConsumePrefix(&what, "landscape/") &&
        (absl::ConsumeSuffix(&what, "_min") || absl::ConsumeSuffix(&what, "_max"))) {
      if (++bands[std::string(what)] == 2) {
        section.charts.push_back(BandChart(set, std::string(what)));
      }
      continue;
    }
    section.charts.push_back(CurveChart(set, series));
  }
  return section;
}

Section LayerSection(const RunSet& set, const RunReportOptions& options) {
  // What is looked at by default; --series takes any other.
  static const std::vector<std::string>& usual = *new std::vector<std::string>{
      "gradient_norm",          "output_gradient_norm",     "covariate_shift",
      "covariate_shift_cosine", "covariate_shift_relative", "activation_shift",
      "dead_fraction"};
  Section section{.title = "Layers"};
  std::map<std::string, std::vector<std::string>> layers;  // of each quantity
  std::vector<std::string> quantities = usual;
  for (const std::string& series : AllSeries(set)) {
    absl::string_view rest = series;
    if (!absl::ConsumePrefix(&rest, "layers/") ||
        (!options.series.empty() && !IsWanted(series, options))) {
      continue;
    }
    const size_t slash = rest.rfind('/');
    if (slash == absl::string_view::npos) {
      continue;
    }
    const std::string quantity(rest.substr(slash + 1));
    layers[quantity].emplace_back(rest.substr(0, slash));
    if (!options.series.empty() &&
        std::find(quantities.begin(), quantities.end(), quantity) == quantities.end()) {
      quantities.push_back(quantity);
    }
  }
  if (set.groups.size() <= kMostFacets || !options.series.empty()) {
    for (const std::string& quantity : quantities) {
      if (layers.count(quantity) > 0) {
        section.charts.push_back(LayerChart(set, quantity, layers[quantity]));
      }
    }
  }
  const bool surfaces =
      options.series.empty() ||
      std::any_of(options.series.begin(), options.series.end(),
                  [](const std::string& name) { return absl::StartsWith(name, "loss_surface/"); });
  for (size_t i = 0; i < set.groups.size() && i < kMostSurfaces && surfaces; ++i) {
    if (std::optional<Chart> chart = SurfaceChart(set.groups[i], i)) {
      section.charts.push_back(*std::move(chart));
    }
  }
  return section;
}

}  // namespace normlab::client::report
