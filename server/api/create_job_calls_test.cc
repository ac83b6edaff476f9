// CreateJob as a call: repeated, refused, many at once, with a helper that fails.
#include <algorithm>
#include <cmath>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/api/create_job.h"
#include "server/api/create_job_test_support.h"
#include "server/domain/errors.h"

namespace normlab::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;
using ::testing::StartsWith;

TEST_F(CreateJobTest, RequestIdMakesARetryHarmless) {
  Serve();
  const v1::Job first = MustCreate(ValidSpec(), "id-1");
  const v1::Job second = MustCreate(ValidSpec(), "id-1");
  EXPECT_EQ(first.name(), second.name());
  EXPECT_EQ(StoredJobs(), 1);
  EXPECT_EQ(controller_.changed().size(), 1u);

  // Even when the job could not be accepted any more.
  LoseData();
  EXPECT_EQ(MustCreate(ValidSpec(), "id-1").name(), first.name());

  v1::JobSpec other = ValidSpec();
  other.set_seed(9);
  const grpc::Status status = Create(CreateRequest(other, "id-1"));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(Reason(status), "REQUEST_ID_REUSED");
  EXPECT_THAT(status.error_message(), HasSubstr(first.name()));
}

TEST_F(CreateJobTest, RefusesARequestIdThatCannotBeShown) {
  Serve();
  EXPECT_THAT(ViolatedFields(Create(CreateRequest(ValidSpec(), std::string(129, 'a')))),
              ElementsAre("request_id"));
  EXPECT_THAT(ViolatedFields(Create(CreateRequest(ValidSpec(), "a\nb"))),
              ElementsAre("request_id"));
  EXPECT_TRUE(Create(CreateRequest(ValidSpec(), std::string(128, 'a'))).ok());
}

TEST_F(CreateJobTest, AHelperThatCrashesIsThisCallersErrorOnly) {
  Serve();
  helper_.SetHandler([](const v1::HelperRequest&) -> absl::StatusOr<v1::HelperResponse> {
    return absl::InternalError("the helper died by signal 11");
  });
  const grpc::Status status = Create(CreateRequest(ValidSpec()));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_THAT(status.error_message(), HasSubstr("signal 11"));
  EXPECT_EQ(backend_->creates_in_flight.load(), 0);
  // What can be mended is told instead.
  v1::JobSpec spec = ValidSpec();
  spec.set_priority(1000);
  EXPECT_THAT(ViolatedFields(Create(CreateRequest(spec))), ElementsAre("priority"));
}

TEST_F(CreateJobTest, DrainingServerRefusesWithRetryInfo) {
  Serve();
  backend_->draining.store(true);
  const grpc::Status status = Create(CreateRequest(ValidSpec()));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(DetailOf<google::rpc::RetryInfo>(status).retry_delay().seconds(), 1);
}

TEST_F(CreateJobTest, ManyCallsAtOnceAreAllAnswered) {
  Serve();
  constexpr int kCalls = 64;
  std::vector<std::string> names(kCalls);
  std::vector<std::thread> threads;
  for (int i = 0; i < kCalls; ++i) {
    threads.emplace_back(
        [this, i, &names] { names[i] = MustCreate(ValidSpec(), absl::StrCat("r", i)).name(); });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  std::sort(names.begin(), names.end());
  EXPECT_EQ(std::unique(names.begin(), names.end()), names.end());
  EXPECT_EQ(controller_.changed().size(), static_cast<size_t>(kCalls));
  EXPECT_EQ(backend_->creates_in_flight.load(), 0);
}

// No thread waits for the helper: more creations than threads hang in it, and other calls are
// answered.
TEST_F(CreateJobTest, ASlowHelperDoesNotBlockOtherCalls) {
  Serve();
  class HangingHelper final : public Helper {
   public:
    void Call(v1::HelperRequest /*request*/, absl::Duration /*timeout*/, Callback done) override {
      absl::MutexLock lock(&mu);
      waiting.push_back(std::move(done));
    }
    absl::Mutex mu;
    std::vector<Callback> waiting;
  } hanging;
  Backend backend{.options = options_,
                  .store = *store_,
                  .hub = hub_,
                  .controller = controller_,
                  .helper = hanging,
                  .normalizer = normalizer_,
                  .observer = Observer::None(),
                  .pool = *pool_,
                  .stream_pool = *stream_pool_,
                  .streams = *streams_};
  constexpr int kCalls = 20;  // of a pool of 4 threads
  std::vector<std::future<absl::StatusOr<v1::Job>>> answers;
  for (int i = 0; i < kCalls; ++i) {
    auto answer = std::make_shared<std::promise<absl::StatusOr<v1::Job>>>();
    answers.push_back(answer->get_future());
    pool_->Post([&backend, answer] {
      StartCreateJob(backend, {.owner = "local"}, CreateRequest(ValidSpec()),
                     [answer](absl::StatusOr<v1::Job> job) { answer->set_value(std::move(job)); });
    });
  }
  EXPECT_EQ(StoredJobs(), 0);  // goes through the same pool
  {
    absl::MutexLock lock(&hanging.mu);
    hanging.mu.Await(absl::Condition(
        +[](HangingHelper* helper) { return helper->waiting.size() == size_t{kCalls}; }, &hanging));
    for (auto& callback : hanging.waiting) {
      std::move(callback)(absl::UnavailableError("shutting down"));
    }
  }
  for (auto& answer : answers) {
    EXPECT_EQ(answer.get().status().code(), absl::StatusCode::kUnavailable);
  }
  EXPECT_EQ(backend.creates_in_flight.load(), 0);
}

// The whole of a long list would exceed a client's limit for trailers, and the client would see
// none of it.
TEST_F(CreateJobTest, VeryManyViolationsStillReachADefaultClient) {
  Serve();
  v1::JobSpec spec = ValidSpec();
  spec.mutable_model()->mutable_mlp()->clear_hidden();
  for (int i = 0; i < 500; ++i) {
    spec.mutable_model()->mutable_mlp()->add_hidden(-i - 1);
  }
  const grpc::Status status = Create(CreateRequest(spec));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << status.error_message();
  const auto detail = DetailOf<google::rpc::BadRequest>(status);
  ASSERT_GT(detail.field_violations_size(), 10);
  EXPECT_EQ(detail.field_violations(0).field(), "model.mlp.hidden[0]");
  EXPECT_THAT(detail.field_violations(detail.field_violations_size() - 1).description(),
              HasSubstr("more problems"));
}

}  // namespace
}  // namespace normlab::server
