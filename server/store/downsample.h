#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace normlab::server {

struct MetricPoint {
  int64_t step = 0;
  double value = 0;
};

// Thins a series of known length to at most `max_points` points while it streams by: keeps the
// first and the last point and, of every bucket of equally many points between them, the minimum,
// the maximum (infinities included) and the first NaN, in their order. All points when they are few
// enough. Not thread-safe.
class Downsampler {
 public:
  // `total` points will be added. max_points 0: no limit; otherwise at least kMinMaxPoints.
  // `has_nan` may be true though there is none: buckets are then larger than need be.
  Downsampler(int64_t total, int32_t max_points, bool has_nan);

  // Takes the next point; appends the points that are decided to `out`.
  void Add(const MetricPoint& point, std::vector<MetricPoint>& out);
  // No more points will come (also when fewer than `total` did).
  void Finish(std::vector<MetricPoint>& out);

 private:
  struct Kept {
    int64_t index = 0;
    MetricPoint point;
  };
  void Flush(std::vector<MetricPoint>& out);

  const int64_t total_;
  const bool keep_all_;
  int64_t buckets_ = 0;

  int64_t added_ = 0;
  int64_t bucket_ = 0;
  std::optional<Kept> minimum_;
  std::optional<Kept> maximum_;
  std::optional<Kept> nan_;
};

}  // namespace normlab::server
