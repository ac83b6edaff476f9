#pragma once

#include <cstddef>
#include <vector>

#include "client/report/report.h"

namespace normlab::client::report {

// Indices of at most `max_points` points (at least 8) of a line that look like all of it: the range of x is cut into equal
// buckets (equal in the logarithm on a logarithmic axis), and every bucket keeps its first point, the points of least and
// greatest y, of least `low` and of greatest `high`, and one that has no finite y, so that a gap stays one. The first and
// the last point of the line are kept. Increasing; all of them when the line is short enough. Points whose x is not finite
// (or not positive on a logarithmic axis) are left out. Thread-safe.
std::vector<size_t> ChoosePoints(const Line& line, Scale x_scale, size_t max_points);

// Means over windows of equal numbers of steps, for series that have a value at every step and jump between them.
struct Windowed {
  std::vector<double> x;  // the last step of each window
  std::vector<double> y;  // mean of the finite values; NaN: the window has none
};

// `x` (increasing) and `y` in windows of `width` (positive) in x, counted from 0. Thread-safe.
Windowed WindowMeans(const std::vector<double>& x, const std::vector<double>& y, double width);

}  // namespace normlab::client::report
