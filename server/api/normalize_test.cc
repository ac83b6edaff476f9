#include "server/api/normalize.h"

#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/api/testing/api_test.h"
#include "server/domain/errors.h"

namespace normlab::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

v1::NormalizeRequest Request(int examples = 3, int features = 2) {
  v1::NormalizeRequest request;
  request.mutable_normalizer()->mutable_batch();
  request.mutable_input()->add_dims(examples);
  request.mutable_input()->add_dims(features);
  request.mutable_input()->mutable_values()->Resize(examples * features, 0.5F);
  return request;
}

absl::StatusOr<v1::HelperResponse> Echo(const v1::HelperRequest& request) {
  v1::HelperResponse response;
  v1::NormalizeResponse& normalized = *response.mutable_normalize()->mutable_response();
  *normalized.mutable_output() = request.normalize().input();
  normalized.set_implementation("echo");
  return response;
}

class NormalizeTest : public ApiTest {
 protected:
  NormalizeTest() { normalizer_.SetHandler(Echo); }

  grpc::Status Normalize(const v1::NormalizeRequest& request,
                         v1::NormalizeResponse* response = nullptr) {
    grpc::ClientContext context;
    v1::NormalizeResponse ignored;
    return normalization_->Normalize(&context, request, response == nullptr ? &ignored : response);
  }

  // A call that does not go through gRPC, on the calling thread.
  std::future<absl::StatusOr<v1::NormalizeResponse>> Start(NormalizeQueue& queue,
                                                           const v1::NormalizeRequest& request) {
    auto answer = std::make_shared<std::promise<absl::StatusOr<v1::NormalizeResponse>>>();
    StartNormalize(*backend_, queue, request,
                   [answer](auto result) { answer->set_value(std::move(result)); });
    return answer->get_future();
  }
};

TEST_F(NormalizeTest, IsServedByAHelperOfItsOwn) {
  Serve();
  v1::NormalizeResponse response;
  const grpc::Status status = Normalize(Request(), &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.implementation(), "echo");
  EXPECT_EQ(response.output().values_size(), 6);
  EXPECT_THAT(normalizer_.requests(), SizeIs(1));
  EXPECT_THAT(helper_.requests(), IsEmpty()) << "jobs wait for that one";
}

TEST_F(NormalizeTest, BadSizesAreRefusedBeforeTheHelper) {
  Serve();
  v1::NormalizeRequest request = Request();
  request.mutable_input()->add_values(1);
  request.mutable_normalizer()->mutable_batch()->set_epsilon(-1);
  (*request.mutable_parameters())["weight"].add_dims(7);
  const grpc::Status status = Normalize(request);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(ViolatedFields(status),
              ElementsAre("normalizer.batch.epsilon", "input.values", "parameters[weight].values"));
  EXPECT_THAT(normalizer_.requests(), IsEmpty());
}

TEST_F(NormalizeTest, WhatOnlyTheEngineKnowsIsRefusedTheSameWay) {
  Serve();
  normalizer_.SetHandler([](const v1::HelperRequest&) -> absl::StatusOr<v1::HelperResponse> {
    v1::HelperResponse response;
    v1::SpecViolation& violation = *response.mutable_normalize()->add_violations();
    violation.set_field("parameters[gamma]");
    violation.set_description("is no tensor of batch; rename it");
    return response;
  });
  const grpc::Status status = Normalize(Request());
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(ViolatedFields(status), ElementsAre("parameters[gamma]"));
}

TEST_F(NormalizeTest, ATensorBeyondTheLimitIsTooMuch) {
  Serve();
  constexpr int kMost = 4 << 20;
  normalizer_.SetHandler([](const v1::HelperRequest&) -> absl::StatusOr<v1::HelperResponse> {
    v1::HelperResponse response;
    response.mutable_normalize()->mutable_response()->set_implementation("large");
    return response;
  });
  v1::NormalizeResponse response;
  EXPECT_TRUE(Normalize(Request(1, kMost), &response).ok());
  const grpc::Status status = Normalize(Request(1, kMost + 1));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(Reason(status), "TENSOR_TOO_LARGE");
  EXPECT_THAT(ViolatedFields(status), ElementsAre("input"));
  EXPECT_THAT(normalizer_.requests(), SizeIs(1));
}

TEST_F(NormalizeTest, WhatHappensToTheHelperIsToldToTheCaller) {
  Serve();
  const auto answer = [this](const absl::Status& status) {
    normalizer_.SetHandler([status](const v1::HelperRequest&) { return status; });
    return Normalize(Request());
  };
  grpc::Status status = answer(absl::InternalError("signal 9"));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(Reason(status), "HELPER_CRASHED");
  EXPECT_THAT(status.error_message(), HasSubstr("signal 9"));
  status = answer(absl::DeadlineExceededError("slow"));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_EQ(Reason(status), "HELPER_TIMEOUT");
  EXPECT_THAT(status.error_message(), HasSubstr("10s"));
  status = answer(absl::UnavailableError("closing"));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_GT(DetailOf<google::rpc::RetryInfo>(status).retry_delay().seconds(), 0);
  normalizer_.SetHandler([](const v1::HelperRequest&) { return v1::HelperResponse(); });
  EXPECT_EQ(Normalize(Request()).error_code(), grpc::StatusCode::INTERNAL);
  normalizer_.SetHandler([](const v1::HelperRequest&) -> absl::StatusOr<v1::HelperResponse> {
    v1::HelperResponse response;
    response.mutable_normalize()->set_failure("oneDNN refused");
    return response;
  });
  status = Normalize(Request());
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_THAT(status.error_message(), HasSubstr("oneDNN refused"));
}

TEST_F(NormalizeTest, TooManyCallsAreSentAway) {
  Serve();
  normalizer_.Hold();
  NormalizeQueue queue;
  std::vector<std::future<absl::StatusOr<v1::NormalizeResponse>>> waiting;
  for (int i = 0; i < NormalizeQueue::kMaxCalls; ++i) {
    waiting.push_back(Start(queue, Request()));
  }
  EXPECT_EQ(backend_->calls_in_flight.load(), NormalizeQueue::kMaxCalls)
      << "a shutdown waits for them";
  const absl::Status refused = Start(queue, Request()).get().status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(GetDetail<google::rpc::RetryInfo>(refused).has_value());
  normalizer_.Release();
  for (auto& answer : waiting) {
    EXPECT_TRUE(answer.get().ok());
  }
  EXPECT_TRUE(Start(queue, Request()).get().ok());
  pool_.reset();  // everything that was posted has run
  EXPECT_EQ(backend_->calls_in_flight.load(), 0);
}

TEST(NormalizeQueueTest, BoundsBytesButLetsOneInAlways) {
  NormalizeQueue queue;
  EXPECT_TRUE(queue.TryEnter(NormalizeQueue::kMaxBytes + 1));
  EXPECT_FALSE(queue.TryEnter(1));
  queue.Leave(NormalizeQueue::kMaxBytes + 1);
  EXPECT_TRUE(queue.TryEnter(NormalizeQueue::kMaxBytes - 1));
  EXPECT_TRUE(queue.TryEnter(1));
  EXPECT_FALSE(queue.TryEnter(1));
  queue.Leave(1);
  EXPECT_TRUE(queue.TryEnter(1));
}

}  // namespace
}  // namespace normlab::server
