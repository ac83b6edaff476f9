#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/api/testing/api_test.h"

namespace normlab::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ReadMetricsTest : public ApiTest {
 protected:
  struct Points {
    std::vector<int64_t> steps;
    std::vector<double> values;
    std::vector<std::string> series;     // of each message
    std::vector<std::string> positions;  // likewise
    std::vector<size_t> sizes;           // likewise
    grpc::Status status;
  };
  Points Read(const v1::ReadMetricsRequest& request) {
    grpc::ClientContext context;
    auto reader = jobs_->ReadMetrics(&context, request);
    v1::ReadMetricsResponse response;
    Points points;
    while (reader->Read(&response)) {
      EXPECT_EQ(response.steps_size(), response.values_size());
      points.series.push_back(response.series());
      points.positions.push_back(response.position());
      points.sizes.push_back(static_cast<size_t>(response.steps_size()));
      points.steps.insert(points.steps.end(), response.steps().begin(), response.steps().end());
      points.values.insert(points.values.end(), response.values().begin(), response.values().end());
    }
    points.status = reader->Finish();
    return points;
  }
};

TEST_F(ReadMetricsTest, GivesEveryPointOfALongSeriesInOrder) {
  Serve();
  // More than two messages and pages of 16,384 points.
  constexpr int kReports = 9;
  constexpr int kSteps = 5001;
  const std::string name = FinishedJob(kReports, kSteps);
  v1::ReadMetricsRequest request;
  request.set_name(name);
  const Points points = Read(request);
  ASSERT_TRUE(points.status.ok()) << points.status.error_message();
  ASSERT_EQ(points.steps.size(), size_t{kReports} * kSteps);
  EXPECT_GE(points.series.size(), 3u);
  for (size_t i = 0; i < points.steps.size(); ++i) {
    ASSERT_EQ(points.steps[i], static_cast<int64_t>(i));
    ASSERT_EQ(points.values[i], static_cast<double>(i) + 0.25);
  }
}

// Wherever a stream breaks, its successor brings exactly the rest.
TEST_F(ReadMetricsTest, EveryMessagesPositionLeadsToTheRest) {
  Serve();
  const std::string name = FinishedJob(12, 5003);
  for (const int max_points : {0, 40'000}) {
    v1::ReadMetricsRequest request;
    request.set_name(name);
    request.set_from_step(17);
    request.set_max_points(max_points);
    const Points whole = Read(request);
    ASSERT_TRUE(whole.status.ok()) << whole.status.error_message();
    ASSERT_GE(whole.series.size(), 3u);
    size_t before = 0;
    for (size_t broken = 0; broken < whole.series.size(); ++broken) {
      before += whole.sizes[broken];
      request.set_position(whole.positions[broken]);
      const Points rest = Read(request);
      ASSERT_TRUE(rest.status.ok()) << rest.status.error_message();
      EXPECT_EQ(rest.steps,
                std::vector<int64_t>(whole.steps.begin() + static_cast<std::ptrdiff_t>(before),
                                     whole.steps.end()))
          << "after message " << broken << " with max_points " << max_points;
    }
    // Of another query.
    request.set_to_step(1000);
    EXPECT_THAT(ViolatedFields(Read(request).status), ElementsAre("position"));
  }
}

TEST_F(ReadMetricsTest, RangesAreInclusive) {
  Serve();
  const std::string name = FinishedJob(3, 7);
  v1::ReadMetricsRequest request;
  request.set_name(name);
  request.add_series("train/loss");
  request.add_series("train/loss");  // once is enough
  request.set_from_step(5);
  request.set_to_step(9);
  EXPECT_THAT(Read(request).steps, ElementsAre(5, 6, 7, 8, 9));
  request.set_from_step(100);
  request.clear_to_step();
  const Points none = Read(request);
  EXPECT_TRUE(none.status.ok());
  EXPECT_TRUE(none.steps.empty());
}

TEST_F(ReadMetricsTest, MaxPointsDownsamples) {
  Serve();
  const std::string name = FinishedJob(3, 700);
  v1::ReadMetricsRequest request;
  request.set_name(name);
  request.set_max_points(50);
  const Points points = Read(request);
  ASSERT_TRUE(points.status.ok()) << points.status.error_message();
  EXPECT_LE(points.steps.size(), 50u);
  EXPECT_GE(points.steps.size(), 10u);
  EXPECT_EQ(points.steps.front(), 0);
  EXPECT_EQ(points.steps.back(), 2099);
}

TEST_F(ReadMetricsTest, RefusesWhatIsNotThere) {
  Serve();
  const std::string name = FinishedJob(1, 3);
  v1::ReadMetricsRequest request;
  request.set_name(name);
  request.add_series("train/los");
  const grpc::Status unknown = Read(request).status;
  EXPECT_EQ(unknown.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(unknown.error_message(), HasSubstr("train/loss"));
  request.clear_series();
  for (const int max_points : {-1, 4, 100'001}) {
    request.set_max_points(max_points);
    const grpc::Status refused = Read(request).status;
    EXPECT_THAT(ViolatedFields(refused), ElementsAre("max_points"));
    EXPECT_THAT(refused.error_message(), HasSubstr("use 5 to 100000, or 0"));
  }
  request.set_max_points(0);
  request.set_from_step(2);
  request.set_to_step(1);
  EXPECT_THAT(ViolatedFields(Read(request).status), ElementsAre("to_step"));
  request.clear_to_step();
  request.set_name("jobs/00000000000000000000");
  EXPECT_EQ(Read(request).status.error_code(), grpc::StatusCode::NOT_FOUND);
}

}  // namespace
}  // namespace normlab::server
