// Pause, resume, update, delete and the bounded queue, through a real grpc::Server.
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/api/testing/api_test.h"

namespace normlab::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class JobControlTest : public ApiTest {
 protected:
  grpc::Status Pause(const std::string& name, v1::Job* job) {
    grpc::ClientContext context;
    v1::PauseJobRequest request;
    request.set_name(name);
    return jobs_->PauseJob(&context, request, job);
  }
  grpc::Status Resume(const std::string& name, v1::Job* job) {
    grpc::ClientContext context;
    v1::ResumeJobRequest request;
    request.set_name(name);
    return jobs_->ResumeJob(&context, request, job);
  }
  grpc::Status Update(const v1::UpdateJobRequest& request, v1::Job* job) {
    grpc::ClientContext context;
    return jobs_->UpdateJob(&context, request, job);
  }
  grpc::Status Delete(const std::string& name, bool force = false, bool allow_missing = false) {
    grpc::ClientContext context;
    v1::DeleteJobRequest request;
    request.set_name(name);
    request.set_force(force);
    request.set_allow_missing(allow_missing);
    google::protobuf::Empty nothing;
    return jobs_->DeleteJob(&context, request, &nothing);
  }
  grpc::Status Get(const std::string& name, v1::Job* job) {
    grpc::ClientContext context;
    v1::GetJobRequest request;
    request.set_name(name);
    return jobs_->GetJob(&context, request, job);
  }
  grpc::Status Create(const std::string& request_id = "") {
    grpc::ClientContext context;
    v1::Job job;
    return jobs_->CreateJob(&context, CreateRequest(ValidSpec(), request_id), &job);
  }
  static v1::UpdateJobRequest Change(const std::string& name, std::vector<std::string> paths) {
    v1::UpdateJobRequest request;
    request.mutable_job()->set_name(name);
    request.mutable_update_mask()->mutable_paths()->Add(paths.begin(), paths.end());
    return request;
  }
};

TEST_F(JobControlTest, PauseAndResumeAreDurableAndTold) {
  Serve();
  const std::string name = MustCreate().name();
  v1::Job job;
  ASSERT_TRUE(Pause(name, &job).ok());
  EXPECT_EQ(job.state(), v1::Job::PAUSED);
  EXPECT_FALSE(job.has_pause_request_time());
  ASSERT_TRUE(Pause(name, &job).ok());
  EXPECT_EQ(controller_.changed().back().state(), v1::Job::PAUSED);
  ASSERT_TRUE(Resume(name, &job).ok());
  EXPECT_EQ(job.state(), v1::Job::QUEUED);
  EXPECT_EQ(controller_.changed().back().state(), v1::Job::QUEUED);
  const grpc::Status refused = Resume(name, &job);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(Reason(refused), "ILLEGAL_TRANSITION");

  StartAttempt(name);
  ASSERT_TRUE(Pause(name, &job).ok());
  EXPECT_EQ(job.state(), v1::Job::RUNNING);
  EXPECT_TRUE(job.has_pause_request_time());
  ASSERT_TRUE(Get(name, &job).ok());
  EXPECT_TRUE(job.has_pause_request_time());
  ASSERT_TRUE(Resume(name, &job).ok());
  EXPECT_FALSE(job.has_pause_request_time());
  ReportSuccess(name, 1);
  EXPECT_EQ(Reason(Pause(name, &job)), "JOB_TERMINAL");
  EXPECT_EQ(Pause("jobs/00000000000000000000", &job).error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(ViolatedFields(Resume("job/x", &job)), ElementsAre("name"));
}

TEST_F(JobControlTest, UpdateChangesWhatTheMaskNamesAndNothingElse) {
  Serve();
  v1::JobSpec spec = ValidSpec();
  spec.set_priority(3);
  (*spec.mutable_labels())["study"] = "first";
  (*spec.mutable_labels())["keep"] = "this";
  const v1::Job created = MustCreate(spec);
  v1::UpdateJobRequest request =
      Change(created.name(), {"labels.study", "labels.fresh", "labels.gone", "priority"});
  (*request.mutable_job()->mutable_labels())["study"] = "second";
  (*request.mutable_job()->mutable_labels())["fresh"] = "";
  (*request.mutable_job()->mutable_labels())["ignored"] = "not in the mask";
  request.mutable_job()->set_display_name("not in the mask either");
  v1::Job job;
  ASSERT_TRUE(Update(request, &job).ok());
  EXPECT_EQ(job.priority(), 0);
  EXPECT_EQ(job.display_name(), "a job");
  EXPECT_THAT(job.labels(), SizeIs(3));
  EXPECT_EQ(job.labels().at("study"), "second");
  EXPECT_EQ(job.labels().at("keep"), "this");
  EXPECT_EQ(job.labels().at("fresh"), "");
  EXPECT_EQ(job.spec().priority(), 3) << "as submitted";
  EXPECT_EQ(controller_.changed().back().priority(), 0);
  // The index follows.
  v1::ListJobsRequest list;
  list.set_filter("labels.study=second");
  v1::ListJobsResponse page;
  grpc::ClientContext context;
  ASSERT_TRUE(jobs_->ListJobs(&context, list, &page).ok());
  EXPECT_THAT(page.jobs(), SizeIs(1));

  request = Change(created.name(), {"labels", "display_name"});
  ASSERT_TRUE(Update(request, &job).ok());
  EXPECT_THAT(job.labels(), IsEmpty());
  EXPECT_EQ(job.display_name(), "");
  // Also when it has ended, without a record.
  StartAttempt(created.name());
  ReportSuccess(created.name(), 1);
  ASSERT_TRUE(Get(created.name(), &job).ok());
  const int64_t last_sequence = job.last_sequence();
  request = Change(created.name(), {"display_name"});
  request.mutable_job()->set_display_name("done");
  ASSERT_TRUE(Update(request, &job).ok());
  EXPECT_EQ(job.display_name(), "done");
  EXPECT_EQ(job.state(), v1::Job::SUCCEEDED);
  EXPECT_EQ(job.last_sequence(), last_sequence);
}

TEST_F(JobControlTest, UpdateRefusesWhatASpecCouldNotHave) {
  Serve();
  const std::string name = MustCreate().name();
  v1::Job job;
  EXPECT_THAT(ViolatedFields(Update(Change(name, {}), &job)), ElementsAre("update_mask"));
  for (const char* path : {"state", "labels.", "spec.priority", "owner", "*"}) {
    EXPECT_THAT(ViolatedFields(Update(Change(name, {path}), &job)), ElementsAre("update_mask"))
        << path;
  }
  EXPECT_THAT(ViolatedFields(Update(Change("nonsense", {"priority"}), &job)),
              ElementsAre("job.name"));
  v1::UpdateJobRequest request = Change(name, {"priority", "labels", "display_name"});
  request.mutable_job()->set_priority(101);
  request.mutable_job()->set_display_name("bell\a");
  (*request.mutable_job()->mutable_labels())["Upper"] = "x";
  EXPECT_THAT(ViolatedFields(Update(request, &job)),
              ElementsAre("job.display_name", "job.priority", "job.labels[\"Upper\"]"));
  ASSERT_TRUE(Get(name, &job).ok());
  EXPECT_EQ(job.display_name(), "a job");
  EXPECT_EQ(Update(Change("jobs/00000000000000000000", {"priority"}), &job).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST_F(JobControlTest, DeletedIsGoneAndItsWatcherIsTold) {
  Serve();
  const std::string name = MustCreate().name();
  grpc::Status refused = Delete(name);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(refused.error_message(), HasSubstr("force"));
  v1::Job job;
  ASSERT_TRUE(Pause(name, &job).ok());
  // A watcher of a paused job waits; its deletion ends the stream.
  grpc::ClientContext context;
  v1::WatchJobRequest watch;
  watch.set_name(name);
  const auto stream = jobs_->WatchJob(&context, watch);
  v1::WatchJobResponse message;
  ASSERT_TRUE(stream->Read(&message));
  ASSERT_TRUE(Delete(name).ok());
  while (stream->Read(&message)) {
  }
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(Get(name, &job).error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(Delete(name).error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_TRUE(Delete(name, false, /*allow_missing=*/true).ok());
  EXPECT_THAT(ViolatedFields(Delete("x", true, true)), ElementsAre("name"));
}

TEST_F(JobControlTest, ForceEndsWhatWaitsOrRunsFirst) {
  Serve();
  const std::string queued = MustCreate().name();
  EXPECT_TRUE(Delete(queued, /*force=*/true).ok());
  v1::Job job;
  EXPECT_EQ(Get(queued, &job).error_code(), grpc::StatusCode::NOT_FOUND);

  const std::string running = MustCreate().name();
  StartAttempt(running);
  std::future<grpc::Status> deleted =
      std::async(std::launch::async, [&] { return Delete(running, /*force=*/true); });
  while (true) {
    ASSERT_TRUE(Get(running, &job).ok());
    if (job.has_cancel_request_time()) {
      break;
    }
    std::this_thread::yield();
  }
  EXPECT_EQ(job.state(), v1::Job::RUNNING) << "until its worker has ended";
  v1::WorkerReport last;
  last.set_number(1);
  last.mutable_outcome()->set_state(v1::Job::CANCELLED);
  Append(running, last);
  EXPECT_TRUE(deleted.get().ok());
  EXPECT_EQ(Get(running, &job).error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(JobControlTest, TheQueueIsBoundedExactlyHoweverManyComeAtOnce) {
  options_.queue_limits = {.jobs = 7, .jobs_per_owner = 0};
  Serve();
  std::vector<std::future<grpc::Status>> calls;
  for (int i = 0; i < 20; ++i) {
    calls.push_back(
        std::async(std::launch::async, [this, i] { return Create(absl::StrCat("request-", i)); }));
  }
  int accepted = 0;
  for (std::future<grpc::Status>& call : calls) {
    const grpc::Status status = call.get();
    if (status.ok()) {
      ++accepted;
      continue;
    }
    EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << status.error_message();
    EXPECT_EQ(Reason(status), "QUEUE_FULL");
    EXPECT_GT(DetailOf<google::rpc::RetryInfo>(status).retry_delay().seconds(), 0);
  }
  // In a crowd a place may look taken that is about to be counted; never the other way round.
  EXPECT_LE(accepted, 7);
  while (Create().ok()) {
    ++accepted;
    ASSERT_LE(accepted, 7);
  }
  EXPECT_EQ(accepted, 7);
  // A paused job takes no place; an answered request is answered again.
  v1::ListJobsResponse page;
  grpc::ClientContext context;
  ASSERT_TRUE(jobs_->ListJobs(&context, v1::ListJobsRequest(), &page).ok());
  v1::Job job;
  ASSERT_TRUE(Pause(page.jobs(0).name(), &job).ok());
  EXPECT_TRUE(Create("one more").ok());
  EXPECT_FALSE(Create().ok());
  EXPECT_TRUE(Create("one more").ok());
  // To come back it needs one again: pausing and resuming is no way past the bound.
  const grpc::Status full = Resume(page.jobs(0).name(), &job);
  EXPECT_EQ(Reason(full), "QUEUE_FULL");
  EXPECT_THAT(full.error_message(), ::testing::HasSubstr("no room for 1 job: 7 of at most 7 wait"));
  ASSERT_TRUE(Pause(page.jobs(1).name(), &job).ok());
  EXPECT_TRUE(Resume(page.jobs(0).name(), &job).ok());
}

TEST_F(JobControlTest, AnOwnerHasABoundOfItsOwn) {
  options_.queue_limits = {.jobs = 100, .jobs_per_owner = 2};
  Serve();
  EXPECT_TRUE(Create().ok());
  EXPECT_TRUE(Create().ok());
  grpc::Status refused = Create();
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(Reason(refused), "OWNER_QUEUE_FULL");
  EXPECT_THAT(refused.error_message(), ::testing::HasSubstr("2 of at most 2 jobs"));
  // A paused job keeps its owner's place.
  v1::ListJobsResponse page;
  grpc::ClientContext context;
  ASSERT_TRUE(jobs_->ListJobs(&context, v1::ListJobsRequest(), &page).ok());
  v1::Job job;
  ASSERT_TRUE(Pause(page.jobs(0).name(), &job).ok());
  refused = Create();
  EXPECT_EQ(Reason(refused), "OWNER_QUEUE_FULL");
  EXPECT_TRUE(Resume(page.jobs(0).name(), &job).ok());
}

// Ten thousand jobs of large specs would fill the disk.
TEST_F(JobControlTest, AnOwnerHasABoundOfBytes) {
  v1::CreateJobRequest request = CreateRequest(ValidSpec());
  (*request.mutable_job()->mutable_spec()->mutable_labels())["note"] = std::string(200, 'n');
  v1::Job job;
  const auto create = [&] {
    grpc::ClientContext context;
    return jobs_->CreateJob(&context, request, &job);
  };
  options_.queue_limits.bytes_per_owner = 8'000;
  Serve();
  grpc::Status refused;
  int created = 0;
  while (created < 100 && (refused = create()).ok()) {
    ++created;
  }
  // Each takes its spec as submitted, the resolved one and what surrounds them.
  EXPECT_GT(created, 1);
  EXPECT_LT(created, 9);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(Reason(refused), "OWNER_QUEUE_FULL");
  EXPECT_THAT(refused.error_message(), ::testing::HasSubstr("of at most 8000 bytes"));
  EXPECT_GT(DetailOf<google::rpc::RetryInfo>(refused).retry_delay().seconds(), 0);
  // What leaves the queue makes room.
  StartAttempt(job.name());
  EXPECT_TRUE(create().ok());
  // What never fits is no question of time.
  auto& labels = *request.mutable_job()->mutable_spec()->mutable_labels();
  for (int i = 0; i < 31; ++i) {
    labels[absl::StrCat("note-", i)] = std::string(200, 'n');
  }
  const grpc::Status never = create();
  EXPECT_EQ(never.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Reason(never), "INVALID_ARGUMENT");
  EXPECT_THAT(never.error_message(), ::testing::HasSubstr("may take 8000"));
}

}  // namespace
}  // namespace normlab::server
