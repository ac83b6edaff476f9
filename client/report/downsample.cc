#include "client/report/downsample.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <set>

namespace normlab::client::report {
namespace {

constexpr size_t kNone = std::numeric_limits<size_t>::max();
constexpr size_t kKeptInABucket = 6;

// What one bucket keeps.
struct Bucket {
  size_t first = kNone;
  size_t gap = kNone;
  size_t least = kNone;
  size_t greatest = kNone;
  size_t lowest = kNone;
  size_t highest = kNone;

  void Keep(std::set<size_t>& chosen) const {
    for (const size_t index : {first, gap, least, greatest, lowest, highest}) {
      if (index != kNone) {
        chosen.insert(index);
      }
    }
  }
};

// Moves `best` to `index` when the value there is finite and better by `sign`.
void Improve(const std::vector<double>& values, double sign, size_t index, size_t& best) {
  if (index < values.size() && std::isfinite(values[index]) &&
      (best == kNone || sign * values[index] > sign * values[best])) {
    best = index;
  }
}

bool Visible(double x, Scale scale) {
  return std::isfinite(x) && (scale == Scale::kLinear || x > 0);
}

}  // namespace

std::vector<size_t> ChoosePoints(const Line& line, Scale x_scale, size_t max_points) {
  const size_t count = std::min(line.x.size(), line.y.size());
  std::vector<size_t> visible;
  visible.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    if (Visible(line.x[i], x_scale)) {
      visible.push_back(i);
    }
  }
  max_points = std::max<size_t>(max_points, kKeptInABucket + 2);
  if (visible.size() <= max_points) {
    return visible;
  }
  const auto place = [&](size_t index) {
    return x_scale == Scale::kLinear ? line.x[index] : std::log(line.x[index]);
  };
  const double start = place(visible.front());
  const double width = place(visible.back()) - start;
  const bool has_band = !line.low.empty() || !line.high.empty();
  const size_t buckets = (max_points - 2) / (has_band ? kKeptInABucket : kKeptInABucket - 2);
  std::set<size_t> chosen = {visible.front(), visible.back()};
  Bucket bucket;
  size_t current = 0;
  for (const size_t index : visible) {
    const double share = width > 0 ? (place(index) - start) / width : 0;
    const size_t place_of =
        std::min(buckets - 1,
                 static_cast<size_t>(std::clamp(share, 0.0, 1.0) * static_cast<double>(buckets)));
    if (place_of != current) {
      bucket.Keep(chosen);
      bucket = Bucket();
      current = place_of;
    }
    if (bucket.first == kNone) {
      bucket.first = index;
    }
    if (bucket.gap == kNone && !std::isfinite(line.y[index])) {
      bucket.gap = index;
    }
    Improve(line.y, -1, index, bucket.least);
    Improve(line.y, 1, index, bucket.greatest);
    Improve(line.low, -1, index, bucket.lowest);
    Improve(line.high, 1, index, bucket.highest);
  }
  bucket.Keep(chosen);
  return {chosen.begin(), chosen.end()};
}

Windowed WindowMeans(const std::vector<double>& x, const std::vector<double>& y, double width) {
  Windowed windowed;
  const size_t count = std::min(x.size(), y.size());
  size_t begin = 0;
  while (begin < count) {
    const double window = std::floor(x[begin] / width);
    double sum = 0;
    int64_t finite = 0;
    size_t end = begin;
    for (; end < count && std::floor(x[end] / width) == window; ++end) {
      if (std::isfinite(y[end])) {
        sum += y[end];
        ++finite;
      }
    }
    windowed.x.push_back((window + 1) * width - 1);
    windowed.y.push_back(finite > 0 ? sum / static_cast<double>(finite)
                                    : std::numeric_limits<double>::quiet_NaN());
    begin = std::max(end, begin + 1);
  }
  return windowed;
}

}  // namespace normlab::client::report
