#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/api/testing/experiments_api_test.h"
#include "server/store/testing/forwarding_store.h"

namespace normlab::server {
namespace {

using WatchExperimentTest = ExperimentsApiTest;

TEST_F(WatchExperimentTest, WatchesToTheEndOfTheLastJob) {
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

TEST_F(WatchExperimentTest, WatchGathersWhatHappensWithinTheInterval) {
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
TEST_F(WatchExperimentTest, AQuietWatchReadsNothingAndHasHeartbeatsIfWished) {
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

TEST_F(WatchExperimentTest, WatchOfADeletedExperimentEnds) {
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

}  // namespace
}  // namespace normlab::server
