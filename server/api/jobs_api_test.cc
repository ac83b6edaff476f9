#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/api/testing/api_test.h"

namespace normlab::server {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;

class JobsApiTest : public ApiTest {
 protected:
  grpc::Status List(const v1::ListJobsRequest& request, v1::ListJobsResponse* response) {
    grpc::ClientContext context;
    return jobs_->ListJobs(&context, request, response);
  }
  grpc::Status Cancel(const std::string& name, v1::Job* job) {
    grpc::ClientContext context;
    v1::CancelJobRequest request;
    request.set_name(name);
    return jobs_->CancelJob(&context, request, job);
  }
  static std::vector<std::string> Names(const v1::ListJobsResponse& response) {
    std::vector<std::string> names;
    for (const v1::Job& job : response.jobs()) {
      names.push_back(job.name());
    }
    return names;
  }
};

TEST_F(JobsApiTest, GetSaysWhichNameIsWrong) {
  Serve();
  v1::Job job;
  for (const char* name : {"", "jobs/", "jobs/../../etc", "job/00000000000000000000"}) {
    grpc::ClientContext context;
    v1::GetJobRequest request;
    request.set_name(name);
    const grpc::Status status = jobs_->GetJob(&context, request, &job);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << name;
    EXPECT_THAT(ViolatedFields(status), ElementsAre("name"));
  }
  grpc::ClientContext context;
  v1::GetJobRequest request;
  request.set_name("jobs/00000000000000000000");
  const grpc::Status status = jobs_->GetJob(&context, request, &job);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(Reason(status), "JOB_NOT_FOUND");
  EXPECT_EQ(DetailOf<google::rpc::ResourceInfo>(status).resource_name(), request.name());
}

TEST_F(JobsApiTest, ListsNewestFirstInPages) {
  Serve();
  std::vector<std::string> newest_first;
  for (int i = 0; i < 5; ++i) {
    v1::JobSpec spec = ValidSpec();
    (*spec.mutable_labels())["parity"] = i % 2 == 0 ? "even" : "odd";
    newest_first.insert(newest_first.begin(), MustCreate(spec).name());
  }
  v1::ListJobsRequest request;
  request.set_page_size(3);
  v1::ListJobsResponse page;
  ASSERT_TRUE(List(request, &page).ok());
  std::vector<std::string> listed = Names(page);
  EXPECT_EQ(listed.size(), 3u);
  request.set_page_token(page.next_page_token());
  v1::ListJobsResponse rest;
  ASSERT_TRUE(List(request, &rest).ok());
  EXPECT_TRUE(rest.next_page_token().empty());
  for (const std::string& name : Names(rest)) {
    listed.push_back(name);
  }
  EXPECT_EQ(listed, newest_first);

  request.set_filter("labels.parity=odd");
  const grpc::Status mixed = List(request, &page);
  EXPECT_EQ(mixed.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Reason(mixed), "INVALID_PAGE_TOKEN");
  request.clear_page_token();
  ASSERT_TRUE(List(request, &page).ok());
  EXPECT_THAT(Names(page), ElementsAre(newest_first[1], newest_first[3]));
}

TEST_F(JobsApiTest, ListRefusesWhatItCannotRead) {
  Serve();
  v1::ListJobsResponse page;
  v1::ListJobsRequest request;
  request.set_page_size(-1);
  EXPECT_THAT(ViolatedFields(List(request, &page)), ElementsAre("page_size"));
  request.set_page_size(100000);  // coerced
  EXPECT_TRUE(List(request, &page).ok());
  request.set_filter("state=SLEEPING");
  EXPECT_THAT(ViolatedFields(List(request, &page)), ElementsAre("filter"));
}

TEST_F(JobsApiTest, CancelsAQueuedJobAtOnceAndTwiceTheSame) {
  Serve();
  const std::string name = MustCreate().name();
  v1::Job job;
  ASSERT_TRUE(Cancel(name, &job).ok());
  EXPECT_EQ(job.state(), v1::Job::CANCELLED);
  EXPECT_EQ(controller_.changed().back().state(), v1::Job::CANCELLED);
  v1::Job again;
  ASSERT_TRUE(Cancel(name, &again).ok());
  EXPECT_EQ(again.last_sequence(), job.last_sequence());
}

TEST_F(JobsApiTest, CancelOfARunningJobIsADurableWish) {
  Serve();
  const std::string name = MustCreate().name();
  StartAttempt(name);
  v1::Job job;
  ASSERT_TRUE(Cancel(name, &job).ok());
  EXPECT_EQ(job.state(), v1::Job::RUNNING);
  EXPECT_TRUE(job.has_cancel_request_time());
  EXPECT_TRUE(controller_.changed().back().has_cancel_request_time());
}

TEST_F(JobsApiTest, CancelOfAnEndedJobIsRefused) {
  Serve();
  const std::string name = MustCreate().name();
  StartAttempt(name);
  ReportSuccess(name, 1);
  v1::Job job;
  const grpc::Status status = Cancel(name, &job);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(Reason(status), "JOB_TERMINAL");
  EXPECT_EQ(Cancel("jobs/00000000000000000000", &job).error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(JobsApiTest, ServerInfoListsWhatASpecCanChoose) {
  Serve();
  for (int call = 0; call < 2; ++call) {
    grpc::ClientContext context;
    v1::ServerInfo info;
    ASSERT_TRUE(info_->GetServerInfo(&context, v1::GetServerInfoRequest(), &info).ok());
    EXPECT_EQ(info.version(), "1.2.3");
    EXPECT_EQ(info.isa(), "AVX512_CORE");
    EXPECT_EQ(info.onednn_version(), "2.6.3");
    EXPECT_EQ(info.cores(), 3);
    EXPECT_EQ(info.memory_bytes(), int64_t{8} << 30);
    EXPECT_THAT(info.data_roots(), ElementsAre("/data"));
    EXPECT_THAT(info.models(), Contains("mlp"));
    EXPECT_THAT(info.normalizations(), Contains("batch"));
    EXPECT_THAT(info.data_sets(), Contains("fashion_mnist"));
    EXPECT_THAT(info.initializers(), Contains("he_normal"));
    EXPECT_THAT(info.optimizers(), Contains("sgd"));
    EXPECT_TRUE(info.has_start_time());
  }
  // The engine does not change while the server lives.
  EXPECT_EQ(helper_.requests().size(), 1u);
}

TEST_F(JobsApiTest, ServerInfoComesAlsoWithoutTheHelper) {
  Serve();
  helper_.SetHandler([](const v1::HelperRequest&) -> absl::StatusOr<v1::HelperResponse> {
    return absl::InternalError("dead");
  });
  grpc::ClientContext context;
  v1::ServerInfo info;
  ASSERT_TRUE(info_->GetServerInfo(&context, v1::GetServerInfoRequest(), &info).ok());
  EXPECT_EQ(info.isa(), "");
  EXPECT_EQ(info.cores(), 3);
}

TEST_F(JobsApiTest, SaysWhenAWorkerIsSilentForRemarkablyLong) {
  Serve();
  const std::string running = MustCreate().name();
  const std::string waiting = MustCreate().name();
  StartAttempt(running);
  const auto reason = [&](const std::string& name) {
    grpc::ClientContext context;
    v1::GetJobRequest request;
    request.set_name(name);
    v1::Job job;
    EXPECT_TRUE(jobs_->GetJob(&context, request, &job).ok());
    return job.queue_reason();
  };
  controller_.set_silence(absl::Milliseconds(9'900));
  EXPECT_EQ(reason(running), "");
  controller_.set_silence(absl::Milliseconds(42'900));
  EXPECT_THAT(reason(running), ::testing::HasSubstr("no report for 42 s"));
  EXPECT_EQ(reason(waiting), "");
}

}  // namespace
}  // namespace normlab::server
