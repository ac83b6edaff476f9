#include "server/store/read_metrics.h"

#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "server/domain/errors.h"
#include "server/store/downsample.h"
#include "server/store/testing/harness.h"

namespace normlab::server {
namespace {

using Points = std::map<std::string, std::vector<std::pair<int64_t, double>>>;

class ReadMetricsTest : public ::testing::Test {
 protected:
  // Three series: every step, every step, every 10th.
  static constexpr int64_t kSteps = 20'011;

  ReadMetricsTest() {
    auto store = Store::Open({.data_dir = folder_.path()});
    EXPECT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    EXPECT_TRUE(testing::CreateAndWait(*store_, testing::TestJob(id_)).ok());
    const AttemptKey attempt = testing::StartAttempt(*store_, id_);
    testing::Reporter reporter;
    reporter.Define(1, "loss").Define(2, "accuracy").Define(3, "test");
    for (int64_t begin = 0; begin < kSteps; begin += 500) {
      std::vector<int64_t> steps;
      std::vector<double> values;
      std::vector<int64_t> tenth;
      std::vector<double> tests;
      for (int64_t step = begin; step < std::min(begin + 500, kSteps); ++step) {
        const double loss = step == 12'345 ? std::numeric_limits<double>::quiet_NaN()
                                           : std::sin(0.01 * static_cast<double>(step));
        steps.push_back(step);
        values.push_back(loss);
        values.push_back(static_cast<double>(step));
        truth_["loss"].emplace_back(step, loss);
        truth_["accuracy"].emplace_back(step, static_cast<double>(step));
        if (step % 10 == 0) {
          tenth.push_back(step);
          tests.push_back(-static_cast<double>(step));
          truth_["test"].emplace_back(step, tests.back());
        }
      }
      reporter.Block({1, 2}, steps, values).Block({3}, tenth, tests);
      EXPECT_TRUE(testing::AppendAndWait(*store_, attempt, reporter.Take()).ok());
    }
  }

  static bool Same(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

  static MetricSink Into(Points& points, std::vector<std::string>& order) {
    return [&](const std::string& series, absl::Span<const int64_t> steps,
               absl::Span<const double> values) {
      EXPECT_EQ(steps.size(), values.size());
      if (order.empty() || order.back() != series) {
        order.push_back(series);
      }
      for (size_t i = 0; i < steps.size(); ++i) {
        points[series].emplace_back(steps[i], values[i]);
      }
      return true;
    };
  }

  static void ExpectSame(const Points& a, const Points& b) {
    ASSERT_EQ(a.size(), b.size());
    for (const auto& [series, points] : a) {
      const auto& other = b.at(series);
      ASSERT_EQ(points.size(), other.size()) << series;
      for (size_t i = 0; i < points.size(); ++i) {
        ASSERT_TRUE(points[i].first == other[i].first && Same(points[i].second, other[i].second))
            << series << " " << i;
      }
    }
  }

  testing::TempFolder folder_;
  std::unique_ptr<Store> store_;
  const std::string id_ = testing::TestId(1);
  Points truth_;
};

TEST_F(ReadMetricsTest, EveryPointWithAnyBuffer) {
  for (const int64_t buffer : {int64_t{1}, int64_t{25'000}, int64_t{1} << 20}) {
    ReadPool pool(folder_.path() + "/normlab.db", 2);
    Points points;
    std::vector<std::string> order;
    ASSERT_TRUE(ReadMetricPoints(pool, {.job_id = id_}, Into(points, order), buffer).ok());
    ExpectSame(points, truth_);
    // Series after series, each in one go.
    EXPECT_EQ(order, (std::vector<std::string>{"loss", "accuracy", "test"}));
  }
}

TEST_F(ReadMetricsTest, ChosenSeriesAndRangeOfSteps) {
  Points points;
  std::vector<std::string> order;
  MetricQuery query;
  query.job_id = id_;
  query.series = {"test", "loss", "test"};
  query.from_step = 1'234;
  query.to_step = 17'770;
  ASSERT_TRUE(store_->ReadMetrics(query, Into(points, order)).ok());
  EXPECT_EQ(order, (std::vector<std::string>{"test", "loss"}));
  EXPECT_EQ(points["loss"].size(), 17'770u - 1'234 + 1);
  EXPECT_EQ(points["test"].front().first, 1'240);
  EXPECT_EQ(points["test"].back().first, 17'770);
}

TEST_F(ReadMetricsTest, ThinnedSeriesEqualTheDownsamplerOverTheTruth) {
  for (const bool ranged : {false, true}) {
    MetricQuery query;
    query.job_id = id_;
    query.max_points = 101;
    if (ranged) {
      query.from_step = 5'000;
      query.to_step = 15'001;
    }
    Points points;
    std::vector<std::string> order;
    ASSERT_TRUE(store_->ReadMetrics(query, Into(points, order)).ok());
    Points expected;
    for (const auto& [series, all] : truth_) {
      std::vector<MetricPoint> inside;
      bool has_nan = false;
      for (const auto& [step, value] : all) {
        if (!ranged || (step >= 5'000 && step <= 15'001)) {
          inside.push_back({step, value});
          has_nan = has_nan || std::isnan(value);
        }
      }
      Downsampler downsampler(static_cast<int64_t>(inside.size()), 101, has_nan);
      std::vector<MetricPoint> thin;
      for (const MetricPoint& point : inside) {
        downsampler.Add(point, thin);
      }
      downsampler.Finish(thin);
      EXPECT_LE(thin.size(), 101u);
      for (const MetricPoint& point : thin) {
        expected[series].emplace_back(point.step, point.value);
      }
    }
    ExpectSame(points, expected);
    EXPECT_EQ(points["loss"].front().first, ranged ? 5'000 : 0);
    EXPECT_EQ(points["loss"].back().first, ranged ? 15'001 : kSteps - 1);
  }
}

TEST_F(ReadMetricsTest, StopsWhenTheSinkDoesAndMayBlockWithoutHoldingAConnection) {
  ReadPool pool(folder_.path() + "/normlab.db", 1);
  int runs = 0;
  const auto sink = [&](const std::string&, absl::Span<const int64_t>, absl::Span<const double>) {
    ++runs;
    // With the only connection of the pool.
    EXPECT_TRUE(pool.Read([](Connection&) { return absl::OkStatus(); }).ok());
    return runs < 3;
  };
  ASSERT_TRUE(ReadMetricPoints(pool, {.job_id = id_}, sink, 1).ok());
  EXPECT_EQ(runs, 3);
}

// A deletion in the middle is told: what came before is not taken for all there was. Both for every
// point, and for thinned series, which are made one after the other with so small a buffer.
TEST_F(ReadMetricsTest, AJobThatIsDeletedMeanwhileIsNotFound) {
  for (const int32_t max_points : {0, 101}) {
    const std::string id = testing::TestId(2 + max_points);
    ASSERT_TRUE(testing::CreateAndWait(*store_, testing::TestJob(id)).ok());
    const AttemptKey attempt = testing::StartAttempt(*store_, id);
    testing::Reporter reporter;
    reporter.Define(1, "loss").Define(2, "accuracy");
    std::vector<int64_t> steps;
    std::vector<double> values;
    for (int64_t step = 0; step < 9'001; ++step) {
      steps.push_back(step);
      values.push_back(1.0 / static_cast<double>(step + 1));
      values.push_back(2);
    }
    reporter.Block({1, 2}, steps, values).Outcome(v1::Job::SUCCEEDED, 9'001);
    ASSERT_TRUE(testing::AppendAndWait(*store_, attempt, reporter.Take()).ok());
    ReadPool pool(folder_.path() + "/normlab.db", 2);
    int runs = 0;
    std::set<std::string> seen;
    const absl::Status status = ReadMetricPoints(
        pool, {.job_id = id, .max_points = max_points},
        [&](const std::string& series, absl::Span<const int64_t>, absl::Span<const double>) {
          seen.insert(series);
          if (++runs == 1) {
            EXPECT_TRUE(store_->DeleteJobAndWait(id).ok());
            EXPECT_TRUE(store_->Maintain().ok());  // its records are gone, too
          }
          return true;
        },
        /*buffer_points=*/1);
    EXPECT_EQ(ReasonOf(status), reason::kJobNotFound) << status;
    EXPECT_EQ(seen, std::set<std::string>{"loss"});  // and nothing of the other series
  }
}

TEST_F(ReadMetricsTest, UnknownNamesAndLimitsAreRefused) {
  Points points;
  std::vector<std::string> order;
  const absl::Status unknown =
      store_->ReadMetrics({.job_id = id_, .series = {"loss", "lost"}}, Into(points, order));
  EXPECT_EQ(ReasonOf(unknown), reason::kSeriesNotFound);
  EXPECT_THAT(std::string(unknown.message()), ::testing::HasSubstr("accuracy"));
  EXPECT_EQ(ReasonOf(store_->ReadMetrics({.job_id = testing::TestId(5)}, Into(points, order))),
            reason::kJobNotFound);
  for (const int32_t max_points : {-1, 1, kMinMaxPoints - 1}) {
    EXPECT_EQ(
        store_->ReadMetrics({.job_id = id_, .max_points = max_points}, Into(points, order)).code(),
        absl::StatusCode::kInvalidArgument);
  }
  EXPECT_TRUE(points.empty());
}

}  // namespace
}  // namespace normlab::server
