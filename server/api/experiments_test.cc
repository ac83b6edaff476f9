#include <atomic>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/api/testing/api_test.h"
#include "server/domain/names.h"
#include "server/store/testing/forwarding_store.h"

namespace normlab::server {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

class ExperimentsTest : public ApiTest {
 protected:
  // Two normalizations by two rates, with these seeds.
  static v1::CreateExperimentRequest GridRequest(const std::vector<uint32_t>& seeds = {3, 5, 4}) {
    v1::CreateExperimentRequest request;
    v1::Experiment& experiment = *request.mutable_experiment();
    experiment.set_display_name("a grid");
    *experiment.mutable_base() = ValidSpec();
    AddAxis(experiment, "normalization", {"none", "batch"});
    AddAxis(experiment, "optimizer.sgd.learning_rate", {"0.1", "0.5"});
    experiment.mutable_design()->mutable_seeds()->Add(seeds.begin(), seeds.end());
    return request;
  }
  static void AddAxis(v1::Experiment& experiment,
                      const std::string& field,
                      const std::vector<std::string>& values) {
    v1::Axis& axis = *experiment.mutable_design()->add_axes();
    axis.set_field(field);
    axis.mutable_values()->Add(values.begin(), values.end());
  }

  grpc::Status Create(const v1::CreateExperimentRequest& request, v1::Experiment& experiment) {
    grpc::ClientContext context;
    return experiments_->CreateExperiment(&context, request, &experiment);
  }
  v1::Experiment MustCreate(const v1::CreateExperimentRequest& request = GridRequest()) {
    v1::Experiment experiment;
    const grpc::Status status = Create(request, experiment);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return experiment;
  }
  v1::Experiment Get(const std::string& name) {
    grpc::ClientContext context;
    v1::GetExperimentRequest request;
    request.set_name(name);
    v1::Experiment experiment;
    const grpc::Status status = experiments_->GetExperiment(&context, request, &experiment);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return experiment;
  }
  v1::Job GetJob(const std::string& name) {
    grpc::ClientContext context;
    v1::GetJobRequest request;
    request.set_name(name);
    v1::Job job;
    EXPECT_TRUE(jobs_->GetJob(&context, request, &job).ok());
    return job;
  }
  grpc::Status Cancel(const std::string& name, v1::Experiment& experiment) {
    grpc::ClientContext context;
    v1::CancelExperimentRequest request;
    request.set_name(name);
    return experiments_->CancelExperiment(&context, request, &experiment);
  }
  grpc::Status Delete(const std::string& name, bool force = false, bool allow_missing = false) {
    grpc::ClientContext context;
    v1::DeleteExperimentRequest request;
    request.set_name(name);
    request.set_force(force);
    request.set_allow_missing(allow_missing);
    google::protobuf::Empty empty;
    return experiments_->DeleteExperiment(&context, request, &empty);
  }
  grpc::Status Summarize(const v1::SummarizeExperimentRequest& request,
                         v1::ExperimentSummary& summary) {
    grpc::ClientContext context;
    return experiments_->SummarizeExperiment(&context, request, &summary);
  }
  // Runs a job to its end with one value of train/loss.
  void Finish(const std::string& job, v1::Job::State state, double loss) {
    StartAttempt(job);
    v1::WorkerReport report;
    report.set_number(1);
    v1::Series& series = *report.add_new_series();
    series.set_id(1);
    series.set_name("train/loss");
    v1::MetricBlock& block = *report.add_segments()->mutable_metrics();
    block.add_series(1);
    block.add_steps(9);
    block.add_values(loss);
    report.mutable_outcome()->set_state(state);
    report.mutable_outcome()->mutable_result()->set_steps(10);
    Append(job, std::move(report));
  }
  // What gRPC sends of a watched experiment, in order.
  std::vector<v1::Experiment> WatchAll(const std::string& name) {
    grpc::ClientContext context;
    v1::WatchExperimentRequest request;
    request.set_name(name);
    const auto stream = experiments_->WatchExperiment(&context, request);
    std::vector<v1::Experiment> messages;
    v1::Experiment message;
    while (stream->Read(&message)) {
      messages.push_back(message);
    }
    const grpc::Status status = stream->Finish();
    EXPECT_TRUE(status.ok()) << status.error_message();
    return messages;
  }
};

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

TEST_F(ExperimentsTest, WatchesToTheEndOfTheLastJob) {
  options_.experiment_interval = absl::Milliseconds(1);
  stream_options_.tick = absl::Milliseconds(1);
  Serve();
  const v1::Experiment experiment = MustCreate(GridRequest({1}));
  std::vector<v1::Experiment> messages;
  std::thread watching([&] { messages = WatchAll(experiment.name()); });
  Finish(experiment.cells(0).jobs(0), v1::Job::SUCCEEDED, 0.5);
  v1::Experiment ignored;
  EXPECT_TRUE(Cancel(experiment.name(), ignored).ok());
  watching.join();
  ASSERT_FALSE(messages.empty());
  EXPECT_TRUE(messages.back().has_end_time());
  EXPECT_EQ(messages.back().counts().cancelled(), 3);
  EXPECT_EQ(messages.back().cells(0).counts().succeeded(), 1);
  for (size_t i = 0; i + 1 < messages.size(); ++i) {
    EXPECT_FALSE(messages[i].has_end_time());
    EXPECT_NE(messages[i].SerializeAsString(), messages[i + 1].SerializeAsString());
  }
  // One that has ended is told once.
  EXPECT_EQ(WatchAll(experiment.name()).size(), 1u);
}

TEST_F(ExperimentsTest, WatchGathersWhatHappensWithinTheInterval) {
  options_.experiment_interval = absl::Hours(1);
  Serve();
  const v1::Experiment experiment = MustCreate(GridRequest({1}));
  grpc::ClientContext context;
  v1::WatchExperimentRequest request;
  request.set_name(experiment.name());
  const auto stream = experiments_->WatchExperiment(&context, request);
  v1::Experiment message;
  ASSERT_TRUE(stream->Read(&message));
  EXPECT_EQ(message.counts().queued(), 4);
  v1::Experiment ignored;
  EXPECT_TRUE(Cancel(experiment.name(), ignored).ok());
  // The next message is an hour away; the drain comes first.
  streams_->Drain();
  EXPECT_FALSE(stream->Read(&message));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

// Counts what is read of experiments.
class CountingExperiments final : public ExperimentStore {
 public:
  explicit CountingExperiments(ExperimentStore& real) : real_(real) {}
  void Create(v1::Experiment experiment,
              size_t jobs,
              JobMaker make_job,
              std::string request_id,
              std::string request_sha256,
              CreateCallback done) override {
    real_.Create(std::move(experiment), jobs, make_job, std::move(request_id),
                 std::move(request_sha256), std::move(done));
  }
  absl::StatusOr<std::optional<v1::Experiment>> FindRequest(const std::string& owner,
                                                            const std::string& request_id,
                                                            const std::string& sha256) override {
    return real_.FindRequest(owner, request_id, sha256);
  }
  void Delete(std::string id, absl::AnyInvocable<void(absl::Status) &&> done) override {
    real_.Delete(std::move(id), std::move(done));
  }
  absl::StatusOr<StoredExperiment> Get(const std::string& id, Parts parts) override {
    ++gets;
    return real_.Get(id, parts);
  }
  absl::StatusOr<std::vector<v1::Job::State>> GetStates(const std::string& id) override {
    ++looks;
    return real_.GetStates(id);
  }
  absl::StatusOr<std::string> GetOwner(const std::string& id) override {
    return real_.GetOwner(id);
  }
  absl::StatusOr<ExperimentPage> List(const std::optional<std::string>& owner,
                                      int page_size,
                                      const std::string& page_token) override {
    return real_.List(owner, page_size, page_token);
  }
  absl::StatusOr<std::vector<ExperimentResult>> ReadResults(const std::string& id,
                                                            const std::vector<std::string>& series,
                                                            int64_t from_position,
                                                            int limit) override {
    return real_.ReadResults(id, series, from_position, limit);
  }

  std::atomic<int> gets = 0;
  std::atomic<int> looks = 0;

 private:
  ExperimentStore& real_;
};

class CountingStore final : public testing::ForwardingStore {
 public:
  explicit CountingStore(std::unique_ptr<Store> real)
      : ForwardingStore(std::move(real)), counting(ForwardingStore::experiments()) {}
  ExperimentStore& experiments() override { return counting; }
  CountingExperiments counting;
};

// Hundreds may watch ten thousand jobs of which none starts or ends for hours.
TEST_F(ExperimentsTest, AQuietWatchReadsNothingAndHasHeartbeatsIfWished) {
  options_.experiment_interval = absl::Milliseconds(1);
  options_.heartbeat_interval = absl::Milliseconds(5);
  stream_options_.tick = absl::Milliseconds(1);
  CountingStore* store = nullptr;
  wrap_store_ = [&](std::unique_ptr<Store> real) {
    auto wrapped = std::make_unique<CountingStore>(std::move(real));
    store = wrapped.get();
    return wrapped;
  };
  Serve();
  const v1::Experiment experiment = MustCreate(GridRequest({1}));
  const auto watch = [&](grpc::ClientContext& context, bool heartbeats) {
    v1::WatchExperimentRequest request;
    request.set_name(experiment.name());
    request.set_heartbeats(heartbeats);
    return experiments_->WatchExperiment(&context, request);
  };
  grpc::ClientContext context;
  const auto stream = watch(context, true);
  grpc::ClientContext silent_context;
  const auto silent = watch(silent_context, false);
  v1::Experiment message;
  ASSERT_TRUE(silent->Read(&message));
  ASSERT_TRUE(stream->Read(&message));
  EXPECT_TRUE(message.has_create_time());
  EXPECT_EQ(message.cells_size(), 4);
  const int gets = store->counting.gets;
  const int looks = store->counting.looks;
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(stream->Read(&message));
    v1::Experiment heartbeat;
    heartbeat.set_name(experiment.name());
    EXPECT_EQ(message.ShortDebugString(), heartbeat.ShortDebugString());
  }
  EXPECT_EQ(store->counting.gets, gets);
  EXPECT_EQ(store->counting.looks, looks);
  // News comes all the same, and to the one without heartbeats as the next message.
  Finish(experiment.cells(0).jobs(0), v1::Job::SUCCEEDED, 0.5);
  do {
    ASSERT_TRUE(stream->Read(&message));
  } while (!message.has_create_time() || message.counts().succeeded() == 0);
  do {
    ASSERT_TRUE(silent->Read(&message));
    EXPECT_TRUE(message.has_create_time());
  } while (message.counts().succeeded() == 0);
  context.TryCancel();
  silent_context.TryCancel();
}

TEST_F(ExperimentsTest, WatchOfADeletedExperimentEnds) {
  options_.experiment_interval = absl::Milliseconds(1);
  stream_options_.tick = absl::Milliseconds(1);
  Serve();
  v1::WatchExperimentRequest request;
  request.set_name("experiments/00000000000000000000");
  grpc::ClientContext context;
  const auto stream = experiments_->WatchExperiment(&context, request);
  v1::Experiment message;
  EXPECT_FALSE(stream->Read(&message));
  EXPECT_EQ(Reason(stream->Finish()), "EXPERIMENT_NOT_FOUND");
}

TEST_F(ExperimentsTest, SummarizesOverSeeds) {
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

TEST_F(ExperimentsTest, SummarizeRefusesWhatIsNotThere) {
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
TEST_F(ExperimentsTest, SummarizeRefusesWhatAnAnswerCannotHold) {
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
