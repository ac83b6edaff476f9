#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace normlab::client {

struct ChartOptions {
  int width = 72;       // columns in all, axis labels included
  int height = 10;      // rows of the plot itself
  bool unicode = true;  // braille dots, 2 x 4 to a character; else one "*" to a character
};

// A curve for the terminal: a title line, the plot with its largest and smallest value at the left,
// and the first and last step below. Values that are not finite are left out. `steps` and `values`
// have equal lengths. Every line ends with a line break. Thread-safe.
std::string RenderChart(const std::string& title,
                        const std::vector<int64_t>& steps,
                        const std::vector<double>& values,
                        const ChartOptions& options);

}  // namespace normlab::client
