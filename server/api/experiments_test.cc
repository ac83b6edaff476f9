#include <atomic>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/api/testing/experiments_api_test.h"
#include "server/domain/names.h"

namespace normlab::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;
using ExperimentsTest = ExperimentsApiTest;

TEST_F(ExperimentsTest, MakesAJobOfEveryCellAndSeed) {
  Serve();
  const v1::Experiment experiment = MustCreate();
  EXPECT_TRUE(ParseExperimentName(experiment.name()).ok());
  EXPECT_EQ(experiment.counts().queued(), 12);
  ASSERT_EQ(experiment.cells_size(), 4);
  EXPECT_THAT(experiment.cells(1).values(),
              UnorderedElementsAre(Pair("normalization", "none"),
                                   Pair("optimizer.sgd.learning_rate", "0.5")));
  const v1::Job job = GetJob(experiment.cells(2).jobs(1));
  EXPECT_EQ(job.experiment(), experiment.name());
  EXPECT_EQ(job.spec().seed(), 5u);
  EXPECT_EQ(job.resolved_spec().seed(), 5u);
  EXPECT_TRUE(job.spec().normalization().has_batch());
  EXPECT_EQ(job.spec().optimizer().sgd().learning_rate(), 0.1);
  EXPECT_EQ(job.progress().total_steps(), 100);
  EXPECT_EQ(job.display_name(), "a grid: normalization=batch, learning_rate=0.1, seed=5");
  EXPECT_THAT(job.labels(),
              UnorderedElementsAre(Pair("normalization", "batch"), Pair("learning_rate", "0.1")));
  // The scheduler knows all of them, in the order of the design.
  ASSERT_EQ(controller_.changed().size(), 12u);
  EXPECT_EQ(controller_.changed()[7].name(), job.name());
  EXPECT_EQ(controller_.changed()[7].create_time().SerializeAsString(),
            job.create_time().SerializeAsString());

  grpc::ClientContext context;
  v1::ListJobsRequest list;
  list.set_filter(absl::StrCat("experiment=", experiment.name(), " AND labels.normalization=none"));
  v1::ListJobsResponse listed;
  ASSERT_TRUE(jobs_->ListJobs(&context, list, &listed).ok());
  EXPECT_EQ(listed.jobs_size(), 6);
  EXPECT_EQ(Get(experiment.name()).DebugString(), experiment.DebugString());
}

TEST_F(ExperimentsTest, SameRequestIdMakesOne) {
  Serve();
  v1::CreateExperimentRequest request = GridRequest({1});
  request.set_request_id("once");
  const v1::Experiment first = MustCreate(request);
  EXPECT_EQ(MustCreate(request).name(), first.name());
  EXPECT_EQ(controller_.changed().size(), 4u);
  request.mutable_experiment()->set_display_name("another");
  v1::Experiment ignored;
  const grpc::Status reused = Create(request, ignored);
  EXPECT_EQ(reused.error_code(), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(Reason(reused), "REQUEST_ID_REUSED");
  EXPECT_EQ(DetailOf<google::rpc::ResourceInfo>(reused).resource_name(), first.name());
}

TEST_F(ExperimentsTest, ValidateOnlyAnswersTheCells) {
  Serve();
  v1::CreateExperimentRequest request = GridRequest();
  request.set_validate_only(true);
  const v1::Experiment experiment = MustCreate(request);
  EXPECT_EQ(experiment.name(), "");
  ASSERT_EQ(experiment.cells_size(), 4);
  EXPECT_EQ(experiment.cells(0).values_size(), 2);
  EXPECT_EQ(experiment.cells(0).jobs_size(), 0);
  EXPECT_TRUE(controller_.changed().empty());
  EXPECT_TRUE(store_->CountByState().empty());
}

TEST_F(ExperimentsTest, RefusesDesignsWithThePathAndTheNearestName) {
  Serve();
  v1::CreateExperimentRequest request = GridRequest();
  request.mutable_experiment()->mutable_design()->mutable_axes(1)->set_field(
      "optimizer.sgd.learning_rat");
  v1::Experiment ignored;
  grpc::Status status = Create(request, ignored);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Reason(status), "INVALID_EXPERIMENT");
  EXPECT_THAT(ViolatedFields(status), ElementsAre("design.axes[1].field"));
  EXPECT_THAT(status.error_message(), HasSubstr("did you mean learning_rate?"));

  request = GridRequest();
  request.mutable_experiment()->mutable_design()->mutable_axes(0)->set_values(1, "bacth");
  request.mutable_experiment()->mutable_design()->mutable_axes(1)->clear_values();
  (*request.mutable_experiment()->mutable_labels())["Upper"] = "x";
  status = Create(request, ignored);
  EXPECT_THAT(ViolatedFields(status), ElementsAre("labels[\"Upper\"]", "design.axes[0].values[1]",
                                                  "design.axes[1].values"));

  // 10^9 cells, without making one.
  request = GridRequest();
  request.mutable_experiment()->clear_design();
  for (const char* field : {"batch_size", "steps", "threads"}) {
    std::vector<std::string> values;
    for (int i = 1; i <= 1000; ++i) {
      values.push_back(absl::StrCat(i));
    }
    AddAxis(*request.mutable_experiment(), field, values);
  }
  status = Create(request, ignored);
  EXPECT_THAT(ViolatedFields(status), ElementsAre("design"));
  EXPECT_THAT(status.error_message(), HasSubstr("more than 10000 cells"));
  EXPECT_TRUE(store_->CountByState().empty());
}

TEST_F(ExperimentsTest, RefusesSpecsByCellOrAsTheBases) {
  Serve();
  v1::CreateExperimentRequest request = GridRequest();
  request.mutable_experiment()->mutable_design()->mutable_axes(1)->set_values(1, "-1");
  v1::Experiment ignored;
  grpc::Status status = Create(request, ignored);
  EXPECT_EQ(Reason(status), "INVALID_EXPERIMENT");
  EXPECT_THAT(ViolatedFields(status), ElementsAre("cells[1].optimizer.sgd.learning_rate"));
  EXPECT_THAT(status.error_message(), HasSubstr("and of 1 more cells"));

  request = GridRequest();
  request.mutable_experiment()->mutable_base()->mutable_model()->mutable_mlp()->set_hidden(0, -7);
  status = Create(request, ignored);
  EXPECT_THAT(ViolatedFields(status), ElementsAre("base.model.mlp.hidden[0]"));
  EXPECT_TRUE(controller_.changed().empty());
}

TEST_F(ExperimentsTest, AsksTheHelperOncePerDataSet) {
  std::atomic<int> looks = 0;
  helper_.SetHandler([&](const v1::HelperRequest& request) -> absl::StatusOr<v1::HelperResponse> {
    ++looks;
    v1::HelperResponse response;
    response.set_id(request.id());
    v1::SpecViolation& violation = *response.mutable_data()->add_violations();
    violation.set_field("data.fashion_mnist.path");
    violation.set_description("there is no such folder; install it");
    return response;
  });
  Serve();
  v1::Experiment ignored;
  const grpc::Status status = Create(GridRequest(), ignored);
  EXPECT_THAT(ViolatedFields(status), ElementsAre("base.data.fashion_mnist.path"));
  EXPECT_EQ(looks.load(), 1);
  helper_.SetHandler([](const v1::HelperRequest&) -> absl::StatusOr<v1::HelperResponse> {
    return absl::InternalError("died");
  });
  EXPECT_EQ(Reason(Create(GridRequest(), ignored)), "HELPER_CRASHED");
}

TEST_F(ExperimentsTest, TheQueueHasRoomForAllOrNone) {
  options_.queue_limits.jobs = 13;
  Serve();
  MustCreate();
  v1::Experiment ignored;
  EXPECT_EQ(Reason(Create(GridRequest({1}), ignored)), "QUEUE_FULL");
  const grpc::Status never = Create(GridRequest({1, 2, 3, 4}), ignored);
  EXPECT_EQ(Reason(never), "INVALID_EXPERIMENT");
  EXPECT_THAT(never.error_message(), HasSubstr("makes 16 jobs, but this server lets 13 wait"));
  v1::CreateExperimentRequest one = GridRequest({1});
  one.mutable_experiment()->mutable_design()->clear_axes();
  EXPECT_EQ(MustCreate(one).cells_size(), 1);
}

TEST_F(ExperimentsTest, ListsInPages) {
  Serve();
  std::vector<std::string> newest_first;
  for (int i = 0; i < 3; ++i) {
    newest_first.insert(newest_first.begin(), MustCreate(GridRequest({1})).name());
  }
  std::vector<std::string> listed;
  v1::ListExperimentsRequest request;
  request.set_page_size(2);
  do {
    grpc::ClientContext context;
    v1::ListExperimentsResponse response;
    ASSERT_TRUE(experiments_->ListExperiments(&context, request, &response).ok());
    for (const v1::Experiment& experiment : response.experiments()) {
      EXPECT_EQ(experiment.counts().queued(), 4);
      EXPECT_EQ(experiment.cells_size(), 0);
      listed.push_back(experiment.name());
    }
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  EXPECT_EQ(listed, newest_first);
  request.set_page_size(-1);
  grpc::ClientContext context;
  v1::ListExperimentsResponse response;
  EXPECT_THAT(ViolatedFields(experiments_->ListExperiments(&context, request, &response)),
              ElementsAre("page_size"));
}

TEST_F(ExperimentsTest, SaysWhichNameIsWrong) {
  Serve();
  for (const char* name : {"", "experiments/", "jobs/00000000000000000000"}) {
    v1::Experiment ignored;
    EXPECT_THAT(ViolatedFields(Cancel(name, ignored)), ElementsAre("name")) << name;
    EXPECT_THAT(ViolatedFields(Delete(name)), ElementsAre("name")) << name;
  }
  const std::string absent = "experiments/00000000000000000000";
  v1::Experiment ignored;
  const grpc::Status status = Cancel(absent, ignored);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(Reason(status), "EXPERIMENT_NOT_FOUND");
  EXPECT_EQ(DetailOf<google::rpc::ResourceInfo>(status).resource_name(), absent);
  EXPECT_EQ(Reason(Delete(absent)), "EXPERIMENT_NOT_FOUND");
  EXPECT_TRUE(Delete(absent, false, /*allow_missing=*/true).ok());
}

TEST_F(ExperimentsTest, CancelsWhatHasNotEnded) {
  Serve();
  const v1::Experiment experiment = MustCreate();
  Finish(experiment.cells(0).jobs(0), v1::Job::SUCCEEDED, 0.5);
  StartAttempt(experiment.cells(0).jobs(1));
  v1::Experiment cancelled;
  const grpc::Status status = Cancel(experiment.name(), cancelled);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(cancelled.counts().succeeded(), 1);
  EXPECT_EQ(cancelled.counts().running(), 1);  // its worker has to end it
  EXPECT_EQ(cancelled.counts().cancelled(), 10);
  EXPECT_TRUE(GetJob(experiment.cells(0).jobs(1)).has_cancel_request_time());
  EXPECT_EQ(controller_.changed()[12].name(), experiment.cells(0).jobs(1));
  EXPECT_TRUE(Cancel(experiment.name(), cancelled).ok());
}

TEST_F(ExperimentsTest, DeletesWithItsJobs) {
  Serve();
  const v1::Experiment experiment = MustCreate();
  const grpc::Status early = Delete(experiment.name());
  EXPECT_EQ(early.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(Reason(early), "EXPERIMENT_UNFINISHED");
  const grpc::Status forced = Delete(experiment.name(), /*force=*/true);
  ASSERT_TRUE(forced.ok()) << forced.error_message();
  EXPECT_EQ(Reason(Delete(experiment.name())), "EXPERIMENT_NOT_FOUND");
  EXPECT_TRUE(store_->CountByState().empty());
}

TEST_F(ExperimentsTest, DeletingByForceWaitsForTheEnd) {
  Serve();
  const v1::Experiment experiment = MustCreate(GridRequest({1}));
  const std::string job = experiment.cells(3).jobs(0);
  StartAttempt(job);
  std::thread deleting([&] { EXPECT_TRUE(Delete(experiment.name(), /*force=*/true).ok()); });
  while (!GetJob(job).has_cancel_request_time()) {
    std::this_thread::yield();
  }
  v1::WorkerReport report;
  report.set_number(1);
  report.mutable_outcome()->set_state(v1::Job::CANCELLED);
  Append(job, std::move(report));
  deleting.join();
  EXPECT_TRUE(store_->CountByState().empty());
}

}  // namespace
}  // namespace normlab::server
