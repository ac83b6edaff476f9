#include "client/report/collect_runs.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "client/lib/testing/fake_jobs_service.h"
#include "client/report/writers.h"

namespace normlab::client::report {
namespace {

using normlab::v1::Job;

class CollectRunsTest : public testing::Test {
 protected:
  CollectRunsTest() : client_(Options()) {
    for (int i = 0; i < 6; ++i) {
      Job job;
      job.set_name(absl::StrCat("jobs/j", i));
      job.set_state(Job::SUCCEEDED);
      job.mutable_start_time()->set_seconds(1);
      job.mutable_spec()->set_seed(static_cast<uint32_t>(i));
      std::vector<FakeRecord> records = {FakeState(Job::RUNNING)};
      for (int step = 0; step < 5; ++step) {
        records.push_back(FakePoints{
            .step = step,
            .elapsed_us = 1,
            .values = {{"train/loss", 10.0 * i + step}, {"train/accuracy", 0.1 * step}}});
      }
      records.push_back(FakeState(Job::SUCCEEDED, "done"));
      server_.AddJob(job, records);
    }
  }

  ClientOptions Options() {
    ClientOptions options;
    options.server = server_.address();
    return options;
  }

  FakeServer server_;
  Client client_;
};

TEST_F(CollectRunsTest, AllPointsOfAllJobsInTheirOrderAlsoOverBreaks) {
  server_.GivePositions();
  server_.DropStreams({1, 1, 0});
  bool sampled = true;
  const auto runs =
      CollectRuns(client_, {"jobs/j4", "jobs/j0", "j2", "jobs/j1", "jobs/j3", "jobs/j5"}, &sampled);
  ASSERT_TRUE(runs.ok()) << runs.status();
  EXPECT_FALSE(sampled);
  const std::vector<int> order = {4, 0, 2, 1, 3, 5};
  for (size_t i = 0; i < order.size(); ++i) {
    const SeriesPoints& loss = (*runs)[i].series.at("train/loss");
    ASSERT_EQ(loss.steps.size(), 5U) << i;
    for (int step = 0; step < 5; ++step) {
      EXPECT_EQ(loss.steps[step], step);
      EXPECT_EQ(loss.values[step], 10.0 * order[i] + step);
    }
    EXPECT_EQ((*runs)[i].series.at("train/accuracy").values.size(), 5U);
  }
}

TEST_F(CollectRunsTest, AJobThatIsGoneIsAnErrorOfJobsButNotOfExperiments) {
  bool sampled = false;
  EXPECT_EQ(CollectRuns(client_, {"jobs/j1", "jobs/gone"}, &sampled).status().code(),
            absl::StatusCode::kNotFound);
  normlab::v1::Experiment experiment;
  experiment.set_name("experiments/e");
  experiment.mutable_design()->add_axes()->set_field("batch_size");
  const std::vector<std::vector<std::string>> jobs = {
      {"jobs/j1", "jobs/gone"}, {"jobs/gone2"}, {"jobs/j2", "jobs/j3"}};
  for (size_t i = 0; i < jobs.size(); ++i) {
    normlab::v1::Cell& cell = *experiment.add_cells();
    (*cell.mutable_values())["batch_size"] = absl::StrCat(8 << i);
    cell.mutable_jobs()->Add(jobs[i].begin(), jobs[i].end());
  }
  const auto set = CollectExperiment(client_, experiment);
  ASSERT_TRUE(set.ok()) << set.status();
  ASSERT_EQ(set->groups.size(), 2U);
  EXPECT_EQ(set->groups[0].name, "batch size 8");
  EXPECT_EQ(set->groups[0].runs.size(), 1U);
  EXPECT_EQ(set->groups[1].name, "batch size 32");
  ASSERT_EQ(set->groups[1].runs.size(), 2U);
  EXPECT_EQ(set->groups[1].runs[1].job.name(), "jobs/j3");
  EXPECT_FALSE(RenderHtml(MakeRunReport(*set, {})).empty());
}

TEST_F(CollectRunsTest, AnExperimentOfWhichNothingIsLeftIsAReport) {
  normlab::v1::Experiment experiment;
  experiment.set_name("experiments/e");
  experiment.add_cells()->add_jobs("jobs/gone");
  const auto set = CollectExperiment(client_, experiment);
  ASSERT_TRUE(set.ok()) << set.status();
  const Report report = MakeRunReport(*set, {});
  EXPECT_FALSE(report.warnings.empty());
  EXPECT_FALSE(RenderHtml(report).empty());
}

}  // namespace
}  // namespace normlab::client::report
