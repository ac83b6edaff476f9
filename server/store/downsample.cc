#include "server/store/downsample.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

namespace normlab::server {

Downsampler::Downsampler(int64_t total, int32_t max_points, bool has_nan)
    : total_(total), keep_all_(max_points == 0 || total <= max_points) {
  if (!keep_all_) {
    // Without the first and the last point, and with two or three of every bucket.
    buckets_ = std::max<int64_t>(1, (max_points - 2) / (has_nan ? 3 : 2));
  }
}

int64_t Downsampler::BucketOf(int64_t index) const {
  const int64_t inner = std::clamp<int64_t>(index - 1, 0, std::max<int64_t>(total_ - 3, 0));
  return static_cast<int64_t>(static_cast<__int128>(inner) * buckets_ /
                              std::max<int64_t>(total_ - 2, 1));
}

void Downsampler::EnterBucket(int64_t bucket, std::vector<MetricPoint>& out) {
  if (bucket != bucket_) {
    Flush(out);
    bucket_ = bucket;
  }
}

void Downsampler::Emit(const MetricPoint& point, std::vector<MetricPoint>& out) {
  if (!emitted_step_.has_value() || point.step > *emitted_step_) {
    emitted_step_ = point.step;
    out.push_back(point);
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
    Emit(point, out);
    return;
  }
  EnterBucket(BucketOf(index), out);
  if (std::isnan(point.value)) {
    if (!nan_.has_value()) {
      nan_ = point;
    }
    return;
  }
  if (!minimum_.has_value() || point.value < minimum_->value) {
    minimum_ = point;
  }
  if (!maximum_.has_value() || point.value > maximum_->value) {
    maximum_ = point;
  }
}

bool Downsampler::AddRun(const SeriesSummary& run, std::vector<MetricPoint>& out) {
  const int64_t begin = added_;
  const int64_t end = begin + run.count;
  if (keep_all_ || end > total_) {
    return false;
  }
  const bool inside_one = begin > 0 && end < total_ && BucketOf(begin) == BucketOf(end - 1);
  const bool small = run.count <= (total_ - 2) / buckets_ / 2;
  if (!inside_one && !small) {
    return false;
  }
  added_ = end;
  if (begin == 0) {
    Emit(run.first, out);
  }
  if (end == total_) {
    last_ = run.last;
  }
  EnterBucket(BucketOf(begin + run.count / 2), out);
  if (run.nans > 0 && !nan_.has_value()) {
    nan_ = MetricPoint{run.first_nan_step, std::numeric_limits<double>::quiet_NaN()};
  }
  if (run.nans < run.count) {
    if (!minimum_.has_value() || run.minimum.value < minimum_->value) {
      minimum_ = run.minimum;
    }
    if (!maximum_.has_value() || run.maximum.value > maximum_->value) {
      maximum_ = run.maximum;
    }
  }
  return true;
}

void Downsampler::Finish(std::vector<MetricPoint>& out) {
  Flush(out);
  if (last_.has_value()) {
    Emit(*last_, out);
  }
}

void Downsampler::Flush(std::vector<MetricPoint>& out) {
  // At most three points, in order of steps; one point may have several roles.
  std::map<int64_t, MetricPoint> kept;
  for (const std::optional<MetricPoint>* candidate : {&minimum_, &maximum_, &nan_}) {
    if (candidate->has_value()) {
      kept.emplace((*candidate)->step, **candidate);
    }
  }
  for (const auto& [step, point] : kept) {
    Emit(point, out);
  }
  minimum_.reset();
  maximum_.reset();
  nan_.reset();
}

}  // namespace normlab::server
