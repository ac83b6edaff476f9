#include "server/store/downsample.h"

#include <cmath>
#include <map>

namespace normlab::server {

Downsampler::Downsampler(int64_t total, int32_t max_points, bool has_nan)
    : total_(total), keep_all_(max_points == 0 || total <= max_points) {
  if (!keep_all_) {
    // Without the first and the last point, and with two or three of every bucket.
    buckets_ = std::max<int64_t>(1, (max_points - 2) / (has_nan ? 3 : 2));
  }
}

void Downsampler::Add(const MetricPoint& point, std::vector<MetricPoint>& out) {
  const int64_t index = added_++;
  if (keep_all_) {
    out.push_back(point);
    return;
  }
  if (index == 0 || index >= total_ - 1) {
    Flush(out);
    out.push_back(point);
    return;
  }
  const auto bucket =
      static_cast<int64_t>(static_cast<__int128>(index - 1) * buckets_ / (total_ - 2));
  if (bucket != bucket_) {
    Flush(out);
    bucket_ = bucket;
  }
  if (std::isnan(point.value)) {
    if (!nan_.has_value()) {
      nan_ = Kept{index, point};
    }
    return;
  }
  if (!minimum_.has_value() || point.value < minimum_->point.value) {
    minimum_ = Kept{index, point};
  }
  if (!maximum_.has_value() || point.value > maximum_->point.value) {
    maximum_ = Kept{index, point};
  }
}

void Downsampler::Finish(std::vector<MetricPoint>& out) {
  Flush(out);
}

void Downsampler::Flush(std::vector<MetricPoint>& out) {
  // At most three points, in order of index; one point may have several roles.
  std::map<int64_t, MetricPoint> kept;
  for (const std::optional<Kept>* candidate : {&minimum_, &maximum_, &nan_}) {
    if (candidate->has_value()) {
      kept.emplace((*candidate)->index, (*candidate)->point);
    }
  }
  for (const auto& [index, point] : kept) {
    out.push_back(point);
  }
  minimum_.reset();
  maximum_.reset();
  nan_.reset();
}

}  // namespace normlab::server
