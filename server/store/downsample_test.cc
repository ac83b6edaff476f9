#include "server/store/downsample.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"

#include "common/random.h"

namespace normlab::server {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

std::vector<MetricPoint> Thin(const std::vector<MetricPoint>& points, int32_t max_points) {
  const bool has_nan = std::any_of(points.begin(), points.end(),
                                   [](const MetricPoint& p) { return std::isnan(p.value); });
  Downsampler downsampler(static_cast<int64_t>(points.size()), max_points, has_nan);
  std::vector<MetricPoint> out;
  for (const MetricPoint& point : points) {
    downsampler.Add(point, out);
  }
  downsampler.Finish(out);
  return out;
}

// What the buckets must give, computed the plain way.
std::vector<MetricPoint> BruteForce(const std::vector<MetricPoint>& points, int32_t max_points) {
  const auto total = static_cast<int64_t>(points.size());
  if (total <= max_points) {
    return points;
  }
  const bool has_nan = std::any_of(points.begin(), points.end(),
                                   [](const MetricPoint& p) { return std::isnan(p.value); });
  const int64_t buckets = (max_points - 2) / (has_nan ? 3 : 2);
  std::vector<int64_t> kept = {0, total - 1};
  for (int64_t bucket = 0; bucket < buckets; ++bucket) {
    int64_t minimum = -1;
    int64_t maximum = -1;
    int64_t nan = -1;
    for (int64_t i = 1; i < total - 1; ++i) {
      if ((i - 1) * buckets / (total - 2) != bucket) {
        continue;
      }
      const double value = points[i].value;
      if (std::isnan(value)) {
        nan = nan < 0 ? i : nan;
        continue;
      }
      minimum = minimum < 0 || value < points[minimum].value ? i : minimum;
      maximum = maximum < 0 || value > points[maximum].value ? i : maximum;
    }
    for (const int64_t i : {minimum, maximum, nan}) {
      if (i >= 0) {
        kept.push_back(i);
      }
    }
  }
  std::sort(kept.begin(), kept.end());
  kept.erase(std::unique(kept.begin(), kept.end()), kept.end());
  std::vector<MetricPoint> out;
  for (const int64_t i : kept) {
    out.push_back(points[i]);
  }
  return out;
}

TEST(DownsampleTest, EqualsBruteForce) {
  const common::RandomStream random(3, "downsample");
  for (int trial = 0; trial < 300; ++trial) {
    const auto total = static_cast<int64_t>(random.Below(400, trial, 0));
    const auto max_points = static_cast<int32_t>(5 + random.Below(60, trial, 1));
    const bool dirty = trial % 2 == 1;
    std::vector<MetricPoint> points;
    for (int64_t i = 0; i < total; ++i) {
      double value = std::floor(random.Normal(trial, 10 + i) * 8);
      const auto fate = random.Below(20, trial, 5000 + i);
      value = dirty && fate == 0   ? kNan
              : dirty && fate == 1 ? kInf
              : dirty && fate == 2 ? -kInf
                                   : value;
      points.push_back({3 * i + 1, value});
    }
    const std::vector<MetricPoint> thin = Thin(points, max_points);
    const std::vector<MetricPoint> expected = BruteForce(points, max_points);
    ASSERT_EQ(thin.size(), expected.size()) << trial;
    EXPECT_LE(static_cast<int64_t>(thin.size()), std::max<int64_t>(max_points, 0)) << trial;
    for (size_t i = 0; i < thin.size(); ++i) {
      EXPECT_EQ(thin[i].step, expected[i].step) << trial;
    }
  }
}

TEST(DownsampleTest, ASingleSpikeAndASingleNanSurvive) {
  std::vector<MetricPoint> points;
  for (int64_t i = 0; i < 100'000; ++i) {
    points.push_back({i, 1.0});
  }
  points[777].value = kNan;
  points[55'555].value = kInf;
  points[99'001].value = -4;
  const std::vector<MetricPoint> thin = Thin(points, 50);
  const auto has = [&](int64_t step) {
    return std::any_of(thin.begin(), thin.end(), [&](const auto& p) { return p.step == step; });
  };
  EXPECT_TRUE(has(0) && has(777) && has(55'555) && has(99'001) && has(99'999));
  EXPECT_LE(thin.size(), 50u);
}

TEST(DownsampleTest, OnlyNans) {
  std::vector<MetricPoint> points;
  for (int64_t i = 0; i < 101; ++i) {
    points.push_back({i, kNan});
  }
  const std::vector<MetricPoint> thin = Thin(points, 5);
  ASSERT_EQ(thin.size(), 3u);
  EXPECT_EQ(thin[1].step, 1);
}

}  // namespace
}  // namespace normlab::server
