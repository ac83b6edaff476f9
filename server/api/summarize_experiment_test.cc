#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/api/testing/experiments_api_test.h"

namespace normlab::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using SummarizeExperimentTest = ExperimentsApiTest;

TEST_F(SummarizeExperimentTest, SummarizesOverSeeds) {
  Serve();
  const v1::Experiment experiment = MustCreate();  // seeds 3, 5, 4
  const std::map<int, std::vector<double>> losses = {{0, {0.5, 0.7, 0.9}}, {2, {0.2, 0.5, 0.3}}};
  for (const auto& [cell, values] : losses) {
    for (int seed = 0; seed < 3; ++seed) {
      Finish(experiment.cells(cell).jobs(seed), v1::Job::SUCCEEDED,
             values[static_cast<size_t>(seed)]);
    }
  }
  Finish(experiment.cells(3).jobs(0), v1::Job::DIVERGED, 1e9);
  Finish(experiment.cells(3).jobs(1), v1::Job::SUCCEEDED, 0.25);
  v1::SummarizeExperimentRequest request;
  request.set_name(experiment.name());
  request.set_baseline(0);
  v1::ExperimentSummary summary;
  const grpc::Status status = Summarize(request, summary);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(summary.cells_size(), 4);
  // Of the default series only what there is.
  ASSERT_EQ(summary.cells(0).statistics_size(), 1);
  const v1::Statistic& base = summary.cells(0).statistics(0);
  EXPECT_EQ(base.series(), "train/loss");
  EXPECT_EQ(base.n(), 3);
  EXPECT_NEAR(base.mean(), 0.7, 1e-12);
  EXPECT_NEAR(base.standard_deviation(), 0.2, 1e-12);
  // t(0.975, 2) = 4.302653; half of the interval is t * 0.2 / sqrt(3).
  EXPECT_NEAR(base.interval_high() - base.mean(), 4.302652729911275 * 0.2 / std::sqrt(3.0), 1e-9);
  EXPECT_NEAR(base.mean() - base.interval_low(), base.interval_high() - base.mean(), 1e-12);
  EXPECT_EQ(base.minimum(), 0.5);
  EXPECT_EQ(base.maximum(), 0.9);
  EXPECT_THAT(base.per_seed(), ElementsAre(0.5, 0.7, 0.9));
  EXPECT_EQ(base.difference_mean(), 0);
  EXPECT_EQ(base.difference_n(), 3);
  // Paired by seed: -0.3, -0.2, -0.6.
  const v1::Statistic& other = summary.cells(2).statistics(0);
  EXPECT_NEAR(other.difference_mean(), -1.1 / 3, 1e-12);
  EXPECT_EQ(other.difference_n(), 3);
  EXPECT_LT(other.difference_low(), other.difference_mean());
  // A diverged run is counted, not averaged; what has not run is missing.
  const v1::CellSummary& last = summary.cells(3);
  EXPECT_EQ(last.counts().diverged(), 1);
  EXPECT_EQ(last.counts().queued(), 1);
  EXPECT_EQ(last.statistics(0).n(), 1);
  EXPECT_EQ(last.statistics(0).mean(), 0.25);
  EXPECT_TRUE(std::isnan(last.statistics(0).interval_low()));
  EXPECT_TRUE(std::isnan(last.statistics(0).per_seed(0)));
  EXPECT_EQ(last.statistics(0).per_seed(1), 0.25);
  EXPECT_EQ(last.statistics(0).difference_n(), 1);
  EXPECT_EQ(summary.cells(1).statistics(0).n(), 0);
  EXPECT_TRUE(std::isnan(summary.cells(1).statistics(0).mean()));

  request.clear_baseline();
  request.set_confidence(0.5);
  ASSERT_TRUE(Summarize(request, summary).ok());
  EXPECT_FALSE(summary.cells(2).statistics(0).has_difference_mean());
  EXPECT_NEAR(summary.cells(0).statistics(0).interval_high(),
              0.7 + 0.816496580927726 * 0.2 / std::sqrt(3.0), 1e-9);
}

TEST_F(SummarizeExperimentTest, SummarizeRefusesWhatIsNotThere) {
  Serve();
  const v1::Experiment experiment = MustCreate(GridRequest({1}));
  v1::SummarizeExperimentRequest request;
  request.set_name(experiment.name());
  request.add_series("train/los");
  v1::ExperimentSummary summary;
  // Nobody can tell yet.
  EXPECT_TRUE(Summarize(request, summary).ok());
  EXPECT_EQ(summary.cells(0).statistics(0).n(), 0);
  Finish(experiment.cells(1).jobs(0), v1::Job::SUCCEEDED, 0.5);
  const grpc::Status status = Summarize(request, summary);
  EXPECT_THAT(ViolatedFields(status), ElementsAre("series[0]"));
  EXPECT_THAT(status.error_message(), HasSubstr("did you mean train/loss?"));
  request.clear_series();
  request.set_baseline(4);
  EXPECT_THAT(ViolatedFields(Summarize(request, summary)), ElementsAre("baseline"));
  request.clear_baseline();
  request.set_confidence(1);
  EXPECT_THAT(ViolatedFields(Summarize(request, summary)), ElementsAre("confidence"));
}

// A cell repeats every name, so a small request could make gigabytes of an answer.
TEST_F(SummarizeExperimentTest, SummarizeRefusesWhatAnAnswerCannotHold) {
  Serve();
  v1::CreateExperimentRequest wide = GridRequest({1});
  wide.mutable_experiment()->clear_design();
  std::vector<std::string> sizes;
  for (int size = 1; size <= 1'000; ++size) {
    sizes.push_back(absl::StrCat(size));
  }
  AddAxis(*wide.mutable_experiment(), "batch_size", sizes);
  v1::SummarizeExperimentRequest request;
  request.set_name(MustCreate(wide).name());
  v1::ExperimentSummary summary;
  // All cells of some series are answered.
  request.add_series("train/loss");
  request.add_series(std::string(200, 'n'));
  const grpc::Status few = Summarize(request, summary);
  ASSERT_TRUE(few.ok()) << few.error_message();
  EXPECT_EQ(summary.cells(999).statistics_size(), 2);

  request.add_series(std::string(201, 'n'));
  const grpc::Status long_name = Summarize(request, summary);
  EXPECT_THAT(ViolatedFields(long_name), ElementsAre("series[2]"));
  EXPECT_THAT(long_name.error_message(), HasSubstr("has 201 bytes"));

  // Told by the names alone: 1,000 * 20 * (200 + 8) bytes.
  const auto ask_for = [&](int count, size_t length) {
    request.clear_series();
    for (int i = 0; i < count; ++i) {
      std::string name = absl::StrCat(i, "-");
      name.resize(length, 'n');
      request.add_series(name);
    }
    return Summarize(request, summary);
  };
  const grpc::Status names = ask_for(20, 200);
  EXPECT_THAT(ViolatedFields(names), ElementsAre("series"));
  EXPECT_THAT(names.error_message(), HasSubstr("KiB"));
  EXPECT_THAT(names.error_message(), HasSubstr("fewer series"));
  const grpc::Status many = ask_for(101, 4);
  EXPECT_THAT(many.error_message(), HasSubstr("1000 cells by 101 series"));
  // Only the statistics tell: each has some eighty bytes beside its name and value.
  const grpc::Status statistics = ask_for(90, 4);
  EXPECT_THAT(ViolatedFields(statistics), ElementsAre("series"));
  EXPECT_THAT(statistics.error_message(), HasSubstr("90 series of 1000 cells"));
  EXPECT_TRUE(ask_for(20, 4).ok());
}

}  // namespace
}  // namespace normlab::server
