#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "client/report/report.h"

// What charts look like: colours that colour-blind people can tell apart, with shapes beside them, so that nothing is said by
// colour alone. All functions are thread-safe.
namespace normlab::client::report {

// Where a chart is drawn. On a page colours are CSS variables, so that the reader's light or dark setting and paper change
// them without a redraw; a picture has those of the light theme.
enum class Medium { kPage, kPicture };

enum class Tone { kText, kMuted, kGrid, kReference, kBackground };

std::string ToneColor(Tone tone, Medium medium);
// Of the n-th category, from 0; they repeat after 8, with other shapes.
std::string CategoryColor(size_t index, Medium medium);
// A symbol of Vega; 64 categories differ in colour or shape.
std::string CategoryShape(size_t index);
// The same as an SVG path around (0, 0), about 9 wide.
std::string ShapePath(absl::string_view shape);
// Lengths of dash and gap of the n-th reference line.
std::vector<int> ReferenceDash(size_t index);
// From low to high, about evenly perceived (cividis).
const std::vector<std::string>& HeatColors();

// One line of a legend.
struct LegendEntry {
  std::string name;
  std::string color;
  std::string shape;      // empty: no symbol
  std::vector<int> dash;  // of the line
  bool line = true;
  bool band = false;  // has one behind the line
};

// Entries of a chart's legend, in the order of their colours; none for a heat map, and for a chart of one nameless thing.
std::vector<LegendEntry> MakeLegend(const Chart& chart, Medium medium);

// Names of lines, or groups of dots, each once in the order of appearance: the position is the colour's index. Reference
// lines are not among them.
std::vector<std::string> Categories(const LineChart& chart);
std::vector<std::string> Categories(const DotChart& chart);

}  // namespace normlab::client::report
