#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "server/store/chunk_summary.h"

namespace normlab::server {

// Thins a series of known length to at most `max_points` points while it streams by: keeps the
// first and the last point and, of every bucket of equally many points between them, the minimum,
// the maximum (infinities included) and the first NaN, in their order. All points when they are few
// enough. Runs of points of which only a summary is known are taken where they are small against a
// bucket: they then count whole for the bucket of their middle. Not thread-safe.
class Downsampler {
 public:
  // `total` points will be added. max_points 0: no limit; otherwise at least kMinMaxPoints.
  // `has_nan` may be true though there is none: buckets are then larger than need be.
  Downsampler(int64_t total, int32_t max_points, bool has_nan);

  // Takes the next point; appends the points that are decided to `out`.
  void Add(const MetricPoint& point, std::vector<MetricPoint>& out);
  // Takes the next run.count points by their summary; false, without having taken them: they are
  // wanted one by one.
  bool AddRun(const SeriesSummary& run, std::vector<MetricPoint>& out);
  // No more points will come (also when fewer than `total` did).
  void Finish(std::vector<MetricPoint>& out);

 private:
  // Of a point between the first and the last.
  int64_t BucketOf(int64_t index) const;
  void EnterBucket(int64_t bucket, std::vector<MetricPoint>& out);
  void Flush(std::vector<MetricPoint>& out);
  // Unless a point of this or a later step was given out already.
  void Emit(const MetricPoint& point, std::vector<MetricPoint>& out);

  const int64_t total_;
  const bool keep_all_;
  int64_t buckets_ = 0;

  int64_t added_ = 0;
  int64_t bucket_ = 0;
  std::optional<int64_t> emitted_step_;
  std::optional<MetricPoint> minimum_;
  std::optional<MetricPoint> maximum_;
  std::optional<MetricPoint> nan_;
  std::optional<MetricPoint> last_;  // of the whole series, when it came in a run
};

}  // namespace normlab::server
