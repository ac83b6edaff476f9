#include "client/lib/client.h"

#include <set>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "client/lib/rpc_error.h"
#include "client/lib/testing/fake_jobs_service.h"
#include "client/lib/testing/fast_options.h"

namespace normlab::client {
namespace {

using normlab::v1::Job;
using testing::HasSubstr;
using testing::SizeIs;

TEST(ClientTest, RepeatsUnavailableCallsWithOneRequestId) {
  FakeServer server;
  Client client(FastOptions(server.address()));
  server.FailCalls(3, grpc::Status(grpc::StatusCode::UNAVAILABLE, "restarting"));
  const absl::StatusOr<Job> job = client.CreateJob({}, {});
  ASSERT_TRUE(job.ok()) << job.status();
  const std::vector<normlab::v1::CreateJobRequest> requests = server.create_requests();
  ASSERT_THAT(requests, SizeIs(4));
  EXPECT_THAT(requests[0].request_id(), SizeIs(36));
  std::set<std::string> ids;
  for (const normlab::v1::CreateJobRequest& request : requests) {
    ids.insert(request.request_id());
  }
  EXPECT_THAT(ids, SizeIs(1));
  // Another call is another job; the same id of the user's own is not.
  const absl::StatusOr<Job> second = client.CreateJob({}, {.request_id = "mine"});
  const absl::StatusOr<Job> third = client.CreateJob({}, {.request_id = "mine"});
  ASSERT_TRUE(second.ok() && third.ok());
  EXPECT_NE(second->name(), job->name());
  EXPECT_EQ(second->name(), third->name());
}

TEST(ClientTest, DoesNotRepeatRefusals) {
  FakeServer server;
  Client client(FastOptions(server.address()));
  EXPECT_EQ(client.GetJob("nope").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(server.calls(), 1);
  normlab::v1::JobSpec spec;
  spec.set_batch_size(-3);
  const absl::Status refused = client.CreateJob(spec, {}).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(DescribeError(refused),
            "the spec has 1 problem; correct it and submit it again\n"
            "  batch_size: is negative; use 1 or more");
}

TEST(ClientTest, GivesUpOnAnAbsentServerWithAHint) {
  std::string address;
  {
    const FakeServer gone;
    address = gone.address();
  }
  ClientOptions options = FastOptions(address);
  options.retry.give_up_after = absl::Milliseconds(50);
  Client client(options);
  const absl::Status status = client.GetJob("x").status();
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("start normlabd"));
}

TEST(ClientTest, HonoursRetryInfo) {
  google::rpc::RetryInfo info;
  info.mutable_retry_delay()->set_seconds(2);
  google::rpc::Status details;
  details.set_code(grpc::StatusCode::UNAVAILABLE);
  details.set_message("draining");
  details.add_details()->PackFrom(info);
  const absl::Status status = FromGrpcStatus(
      grpc::Status(grpc::StatusCode::UNAVAILABLE, "draining", details.SerializeAsString()));
  EXPECT_EQ(RetryDelay(status), absl::Seconds(2));
  EXPECT_EQ(Backoff(RetryOptions()).NextDelay(status), absl::Seconds(2));
  EXPECT_EQ(Backoff(RetryOptions()).NextDelay(absl::UnavailableError("")), absl::Milliseconds(100));
  // It does not sleep beyond the time it may take.
  Backoff backoff(RetryOptions{.give_up_after = absl::Seconds(1)});
  EXPECT_FALSE(backoff.Wait(status, {}));
  EXPECT_THAT(DescribeError(status), HasSubstr("try again in 2s"));
}

grpc::Status RefusalFor(const std::string& reason) {
  google::rpc::ErrorInfo error;
  error.set_reason(reason);
  google::rpc::RetryInfo info;
  info.mutable_retry_delay()->set_nanos(150'000'000);
  google::rpc::Status details;
  details.set_code(grpc::StatusCode::RESOURCE_EXHAUSTED);
  details.set_message("too much");
  details.add_details()->PackFrom(error);
  details.add_details()->PackFrom(info);
  return {grpc::StatusCode::RESOURCE_EXHAUSTED, details.message(), details.SerializeAsString()};
}

TEST(ClientTest, ComesBackToAServerThatHadNoRoom) {
  FakeServer server;
  Client client(FastOptions(server.address()));
  for (const char* reason : {"OVERLOADED", "RATE_LIMITED"}) {
    const size_t before = server.create_requests().size();
    server.FailCalls(2, RefusalFor(reason));
    const absl::Time begin = absl::Now();
    const absl::StatusOr<Job> job = client.CreateJob({}, {});
    ASSERT_TRUE(job.ok()) << job.status();
    EXPECT_GE(absl::Now() - begin, absl::Milliseconds(2 * 150)) << "as it was asked to wait";
    const std::vector<normlab::v1::CreateJobRequest> requests = server.create_requests();
    ASSERT_THAT(requests, SizeIs(before + 3));
    EXPECT_EQ(requests[before].request_id(), requests[before + 2].request_id());
  }
  // That may last for hours: an answer for people.
  for (const char* reason : {"QUEUE_FULL", "OWNER_QUEUE_FULL", ""}) {
    const size_t before = server.create_requests().size();
    server.FailCalls(1, RefusalFor(reason));
    EXPECT_EQ(client.CreateJob({}, {}).status().code(), absl::StatusCode::kResourceExhausted);
    EXPECT_THAT(server.create_requests(), SizeIs(before + 1)) << reason;
  }
  // Not beyond the time that there is for repetitions.
  ClientOptions options = FastOptions(server.address());
  options.retry.give_up_after = absl::Milliseconds(100);
  Client hasty(options);
  server.FailCalls(1, RefusalFor("OVERLOADED"));
  EXPECT_EQ(hasty.GetJob("x").status().code(), absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace normlab::client
