#include "server/store/chunk_summary.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "gtest/gtest.h"

#include "common/random.h"
#include "server/store/downsample.h"

namespace normlab::server {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

v1::RecordBatch BatchOf(const std::vector<MetricPoint>& points, uint32_t series) {
  v1::RecordBatch batch;
  v1::MetricBlock& block = *batch.add_segments()->mutable_metrics();
  block.add_series(series);
  for (const MetricPoint& point : points) {
    block.add_steps(point.step);
    block.add_values(point.value);
  }
  return batch;
}

// A noisy curve with a spike up, a spike down, and NaNs.
std::vector<MetricPoint> Curve(int count) {
  const common::RandomStream random(3, "curve");
  std::vector<MetricPoint> points;
  for (int i = 0; i < count; ++i) {
    points.push_back({3 * i + 1, std::cos(i * 0.01) + 0.1 * random.Uniform(0, i)});
  }
  points[count / 3].value = 1e9;
  points[count / 2].value = -kInfinity;
  points[count / 5].value = kNan;
  return points;
}

TEST(ChunkSummaryTest, HasTheEndsTheExtremesAndTheNans) {
  std::vector<MetricPoint> points = Curve(100);
  const std::vector<SeriesSummary> summaries = Summarize(BatchOf(points, 7));
  ASSERT_EQ(summaries.size(), 1u);
  std::vector<SeriesSummary> decoded;
  ASSERT_TRUE(DecodeSummaries(EncodeSummaries(summaries), decoded));
  ASSERT_EQ(decoded.size(), 1u);
  const SeriesSummary& summary = decoded[0];
  EXPECT_EQ(summary.series, 7u);
  EXPECT_EQ(summary.count, 100);
  EXPECT_EQ(summary.nans, 1);
  EXPECT_EQ(summary.first.step, 1);
  EXPECT_EQ(summary.first.value, points[0].value);
  EXPECT_EQ(summary.last.step, 298);
  EXPECT_EQ(summary.last.value, points[99].value);
  EXPECT_EQ(summary.maximum.step, points[33].step);
  EXPECT_EQ(summary.maximum.value, 1e9);
  EXPECT_EQ(summary.minimum.step, points[50].step);
  EXPECT_EQ(summary.minimum.value, -kInfinity);
  EXPECT_EQ(summary.first_nan_step, points[20].step);
}

TEST(ChunkSummaryTest, FewPointsOfASeriesHaveNoSummaryAndForeignBytesAreRefused) {
  EXPECT_TRUE(Summarize(BatchOf(Curve(31), 1)).empty());
  EXPECT_TRUE(Summarize(v1::RecordBatch()).empty());
  std::string bytes = EncodeSummaries(Summarize(BatchOf(Curve(64), 1)));
  std::vector<SeriesSummary> decoded;
  EXPECT_FALSE(DecodeSummaries(bytes.substr(0, bytes.size() - 1), decoded));
  EXPECT_FALSE(DecodeSummaries("", decoded));
  bytes[0] = 9;
  EXPECT_FALSE(DecodeSummaries(bytes, decoded));
}

// Runs of any length, taken where they are small: what is kept are points of the curve, in order,
// with both ends, both extremes and a NaN, spread over all of it.
TEST(ChunkSummaryTest, ThinningByRunsKeepsWhatMatters) {
  const std::vector<MetricPoint> points = Curve(20'011);
  for (const int run_length : {40, 257, 2000}) {
    for (const int max_points : {5, 50, 333}) {
      Downsampler downsampler(static_cast<int64_t>(points.size()), max_points, true);
      std::vector<MetricPoint> kept;
      int taken = 0;
      for (size_t begin = 0; begin < points.size(); begin += run_length) {
        const size_t end = std::min(points.size(), begin + run_length);
        const std::vector<MetricPoint> run(points.begin() + begin, points.begin() + end);
        const std::vector<SeriesSummary> summary = Summarize(BatchOf(run, 1));
        if (!summary.empty() && downsampler.AddRun(summary[0], kept)) {
          ++taken;
          continue;
        }
        for (const MetricPoint& point : run) {
          downsampler.Add(point, kept);
        }
      }
      downsampler.Finish(kept);
      SCOPED_TRACE(::testing::Message() << run_length << " " << max_points);
      EXPECT_LE(kept.size(), static_cast<size_t>(max_points));
      EXPECT_EQ(kept.front().step, points.front().step);
      EXPECT_EQ(kept.back().step, points.back().step);
      bool has_nan = false;
      bool has_top = false;
      bool has_bottom = false;
      int64_t widest = 0;
      for (size_t i = 0; i < kept.size(); ++i) {
        const MetricPoint& original = points[static_cast<size_t>((kept[i].step - 1) / 3)];
        EXPECT_EQ(original.step, kept[i].step);
        has_nan = has_nan || std::isnan(kept[i].value);
        EXPECT_TRUE(original.value == kept[i].value ||
                    (std::isnan(original.value) && std::isnan(kept[i].value)));
        has_top = has_top || kept[i].value == 1e9;
        has_bottom = has_bottom || kept[i].value == -kInfinity;
        if (i > 0) {
          EXPECT_GT(kept[i].step, kept[i - 1].step);
          widest = std::max(widest, kept[i].step - kept[i - 1].step);
        }
      }
      EXPECT_TRUE(has_nan);
      EXPECT_TRUE(has_top);
      EXPECT_TRUE(has_bottom);
      // Two points a bucket at the least: no gap is wider than some buckets.
      const int buckets = (max_points - 2) / 3;
      EXPECT_LE(widest, 3 * (3 * 20'011 / buckets));
      EXPECT_EQ(taken > 0, 2 * run_length <= 20'009 / buckets) << taken;
    }
  }
}

}  // namespace
}  // namespace normlab::server
