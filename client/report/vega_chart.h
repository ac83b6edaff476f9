#pragma once

#include <string>
#include <vector>

#include "client/report/chart_style.h"
#include "client/report/report.h"

#include "nlohmann/json.hpp"

// Charts as specs of Vega 5. Layout is our own (autosize none, every length a constant or an expression of the signal
// `total`, the width there is), so that a chart never is wider than its place. All functions are thread-safe.
namespace normlab::client::report {

using Json = nlohmann::ordered_json;

// The spec of a chart. On a page title, caption and legend are the page's; a picture has title and legend in it, on white.
Json MakeVegaSpec(const Chart& chart, Medium medium);

// What is not shown because it would hide the rest: "Values above 12 are cut off."; empty: nothing.
std::string CutOffNote(const Chart& chart);

// For the three kinds of charts ------------------------------------------------------------------------------------------

// A plain number for a chart: six significant digits; null when it is not finite.
Json ChartNumber(double value);

// `text` as a string of Vega's expression language.
std::string ExpressionString(const std::string& text);

// How Vega's expressions write the number `value` (an expression itself).
std::string NumberExpression(const std::string& value);

// From low to high, low < high.
struct Domain {
  double low = 0;
  double high = 1;
  bool cut = false;  // greater values exist
};

// What an axis shows of `values` (not finite ones are passed over; not positive ones too on a logarithmic axis). A linear
// axis begins at 0 when the values come near it, and cuts off a few values far above all others.
Domain ChooseDomain(std::vector<double> values, Scale scale, bool may_cut);

// Round numbers for the labels of a logarithmic axis: powers of ten, or also 2 and 5 times them over a short range.
std::vector<double> LogarithmicTicks(const Domain& domain);

// Room around each of the equal panels of a chart, in pixels, and how many stand side by side.
struct Frame {
  int panels = 1;
  int least_panel = 250;    // width, else fewer side by side
  std::string left = "52";  // an expression
  int right = 14;
  int top = 26;
  std::string bottom = "44";                              // an expression
  std::string tall = "max(190, min(320, panel * 0.46))";  // height of a panel: an expression
};

// Spec with layout, fonts and, for a picture, title and legend, but without data and marks. Signals: panel and tall (size of
// a panel), columns.
Json BaseSpec(const Chart& chart, const Frame& frame, Medium medium);

// A group for each element of the data set "panels" (with its index as `i`), at its place.
Json PanelGroup(const Frame& frame);

// A scale and an axis for numbers, with few labels. `where`: bottom or left; `other`: the scale that its grid lines span.
Json NumberScale(const std::string& name,
                 const Domain& domain,
                 Scale scale,
                 const std::string& size);
Json NumberAxis(const std::string& name,
                const std::string& where,
                const std::string& other,
                const AxisStyle& style,
                const Domain& domain,
                const std::vector<double>& ticks);

// The title of the y axis, lying above the axis' end; `above`: pixels between.
Json TopTitle(const std::string& title, int above, Medium medium);

// The specs of each kind.
Json LineChartSpec(const Chart& chart, const LineChart& body, Medium medium);
Json HeatMapSpec(const Chart& chart, const HeatMap& body, Medium medium);
Json DotChartSpec(const Chart& chart, const DotChart& body, Medium medium);
// What a line chart shows of y.
Domain LineChartDomain(const LineChart& body);

}  // namespace normlab::client::report
