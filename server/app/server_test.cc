#include "server/app/server.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>

#include "common/atomic_file.h"
#include "server/app/testing/server_test_fixture.h"
#include "server/domain/transitions.h"
#include "server/store/store.h"

namespace normlab::server {
namespace {

using ::testing::HasSubstr;

TEST_F(ServerTest, RunsAJobFromSubmissionToSuccess) {
  StartServer();
  const std::string name = MustCreate();
  ASSERT_TRUE(executor_->WaitForLaunches(1));
  const v1::WorkerAssignment assignment = executor_->launches()[0].assignment;
  EXPECT_EQ(assignment.job(), name);
  PlayWorker(assignment);
  executor_->ExitWithCode({.job_id = name.substr(5), .number = 1}, 0);

  grpc::ClientContext context;
  v1::WatchJobRequest request;
  request.set_name(name);
  auto reader = jobs_->WatchJob(&context, request);
  v1::WatchJobResponse response;
  v1::Job::State last = v1::Job::STATE_UNSPECIFIED;
  int steps = 0;
  while (reader->Read(&response)) {
    for (const v1::Segment& segment : response.records().segments()) {
      last = segment.has_state() ? segment.state().state() : last;
      steps += segment.metrics().steps_size();
    }
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(last, v1::Job::SUCCEEDED);
  EXPECT_EQ(steps, 3);

  const std::string scrape = Http("/metrics");
  EXPECT_THAT(scrape, HasSubstr("normlab_jobs{state=\"SUCCEEDED\"} 1"));
  EXPECT_THAT(scrape, HasSubstr("normlab_steps_total{model=\"mlp\"} 3"));
  EXPECT_THAT(scrape, HasSubstr("normlab_examples_total{model=\"mlp\"} 192"));
  EXPECT_THAT(scrape, HasSubstr("normlab_metric_points_total 3"));
  EXPECT_THAT(scrape,
              HasSubstr("normlab_job_transitions_total{reason=\"none\",state=\"SUCCEEDED\"} 1"));
  EXPECT_THAT(scrape,
              HasSubstr("normlab_job_transitions_total{reason=\"none\",state=\"QUEUED\"} 1"));
  EXPECT_THAT(scrape, HasSubstr("normlab_attempts_total{outcome=\"SUCCEEDED\"} 1"));
  EXPECT_THAT(scrape, HasSubstr("normlab_cores{kind=\"capacity\"} 2"));
  EXPECT_THAT(scrape,
              HasSubstr("grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"CreateJob\",grpc_"
                        "service=\"normlab.v1.Jobs\",grpc_type=\"unary\"} 1"));
  EXPECT_THAT(scrape, HasSubstr("grpc_method=\"Report\",grpc_service=\"normlab.v1.Worker\""));
  std::ofstream(folder_ + "/scrape") << scrape.substr(4);
  EXPECT_EQ(std::system(absl::StrCat("promtool check metrics < ", folder_, "/scrape").c_str()), 0)
      << "promtool comes with the package prometheus";
}

TEST_F(ServerTest, TellsWhereItListensAndThatItIsReady) {
  StartServer();
  const auto ports = common::ReadFile(options_.port_file);
  ASSERT_TRUE(ports.ok()) << ports.status();
  EXPECT_EQ(*ports, absl::StrCat("grpc=", server_->grpc_address(),
                                 "\nhttp=", server_->http_address(), "\n"));
  EXPECT_EQ(Http("/healthz"), "200 ok\n");
  EXPECT_EQ(Http("/readyz"), "200 ok\n");
  struct stat info {};
  ASSERT_EQ(stat((options_.data_dir + "/run/worker.sock").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

// grpc.health.v1 and reflection by hand, as Debian has no generated code for them.
TEST_F(ServerTest, ServesHealthAndReflectionButNoWorkersToClients) {
  StartServer();
  const auto call = [&](const std::string& method, const std::string& request) {
    grpc::GenericStub stub(channel_);
    grpc::ClientContext context;
    grpc::CompletionQueue queue;
    const grpc::Slice slice(request);
    grpc::ByteBuffer message(&slice, 1);
    auto stream = stub.PrepareCall(&context, method, &queue);
    void* tag = nullptr;
    bool ok = false;
    stream->StartCall(nullptr);
    queue.Next(&tag, &ok);
    stream->WriteLast(message, grpc::WriteOptions(), nullptr);
    queue.Next(&tag, &ok);
    grpc::ByteBuffer answer;
    stream->Read(&answer, nullptr);
    queue.Next(&tag, &ok);
    grpc::Status status;
    if (!ok) {
      answer.Clear();
    }
    stream->Finish(&status, nullptr);
    queue.Next(&tag, &ok);
    std::vector<grpc::Slice> slices;
    std::string text;
    if (answer.Valid() && answer.Dump(&slices).ok()) {
      for (const grpc::Slice& part : slices) {
        text.append(reinterpret_cast<const char*>(part.begin()), part.size());
      }
    }
    return std::make_pair(status.error_code(), text);
  };
  // HealthCheckResponse{status: SERVING} is field 1, varint 1.
  EXPECT_EQ(call("/grpc.health.v1.Health/Check", ""),
            std::make_pair(grpc::StatusCode::OK, std::string("\x08\x01")));
  EXPECT_EQ(call("/grpc.health.v1.Health/Check", std::string("\x0a\x0fnormlab.v1.Jobs")),
            std::make_pair(grpc::StatusCode::OK, std::string("\x08\x01")));
  // ServerReflectionRequest{list_services: "*"} is field 7.
  const auto [code, services] = call(
      "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", std::string("\x3a\x01*"));
  EXPECT_EQ(code, grpc::StatusCode::OK);
  EXPECT_THAT(services, HasSubstr("normlab.v1.Jobs"));
  EXPECT_THAT(services, HasSubstr("normlab.v1.Experiments"));
  EXPECT_THAT(services, HasSubstr("normlab.v1.Server"));
  EXPECT_FALSE(absl::StrContains(services, "normlab.v1.Worker"));

  auto worker = v1::Worker::NewStub(channel_);
  grpc::ClientContext context;
  EXPECT_EQ(worker->Report(&context)->Finish().error_code(), grpc::StatusCode::UNIMPLEMENTED);
}

TEST_F(ServerTest, AWorkerWithAWrongSecretIsRefused) {
  StartServer();
  MustCreate();
  ASSERT_TRUE(executor_->WaitForLaunches(1));
  v1::WorkerAssignment assignment = executor_->launches()[0].assignment;
  assignment.set_secret(std::string(32, 'x'));
  EXPECT_EQ(PlayWorker(assignment).error_code(), grpc::StatusCode::UNAUTHENTICATED);
}

TEST_F(ServerTest, ShutdownEndsStreamsWithTheirPositionAndTheNextServerGoesOn) {
  StartServer();
  const std::string name = MustCreate();
  ASSERT_TRUE(executor_->WaitForLaunches(1));
  grpc::ClientContext context;
  v1::WatchJobRequest request;
  request.set_name(name);
  auto reader = jobs_->WatchJob(&context, request);
  v1::WatchJobResponse response;
  ASSERT_TRUE(reader->Read(&response));
  std::thread shutdown([this] { server_->Shutdown(); });
  int64_t last = 0;
  while (reader->Read(&response)) {
    if (response.has_records()) {
      last = response.records().first_sequence() + response.records().segments_size() - 1;
    }
  }
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), HasSubstr(absl::StrCat("after_sequence=", last)));
  shutdown.join();
  EXPECT_FALSE(server_->Ready().ok());
  server_.reset();

  StartServer();
  EXPECT_EQ(Get(name).name(), name);
}

TEST_F(ServerTest, NewJobsAreRefusedWhileACreationThatWaitsForDataIsReleased) {
  auto asked = std::make_shared<absl::Notification>();
  options_.drain_timeout = absl::Milliseconds(50);
  auto started = Server::Start(
      options_, {std::make_unique<HangingHelper>(asked), std::make_unique<FakeExecutor>()});
  ASSERT_TRUE(started.ok()) << started.status();
  server_ = *std::move(started);
  jobs_ = v1::Jobs::NewStub(
      grpc::CreateChannel(server_->grpc_address(), grpc::InsecureChannelCredentials()));
  grpc::Status status;
  std::thread creator([&] {
    grpc::ClientContext context;
    v1::Job job;
    status = jobs_->CreateJob(&context, CreateRequest(), &job);
  });
  asked->WaitForNotification();
  server_->Shutdown();
  creator.join();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE) << status.error_message();
}

// The second signal: a creation that would hold the drain for an hour is let go at once.
TEST_F(ServerTest, HurryUpSkipsTheWaiting) {
  options_.drain_timeout = absl::Hours(1);
  auto asked = std::make_shared<absl::Notification>();
  auto started = Server::Start(
      options_, {std::make_unique<HangingHelper>(asked), std::make_unique<FakeExecutor>()});
  ASSERT_TRUE(started.ok()) << started.status();
  server_ = *std::move(started);
  auto jobs = v1::Jobs::NewStub(
      grpc::CreateChannel(server_->grpc_address(), grpc::InsecureChannelCredentials()));
  std::thread creator([&] {
    grpc::ClientContext context;
    v1::Job job;
    EXPECT_FALSE(jobs->CreateJob(&context, CreateRequest(), &job).ok());
  });
  asked->WaitForNotification();
  std::thread shutdown([this] { server_->Shutdown(); });
  EXPECT_TRUE(Eventually([&] { return !server_->Ready().ok(); }));
  server_->HurryUp();
  shutdown.join();
  creator.join();
}

TEST_F(ServerTest, AttemptsThatSlurmStillHasAreNotForgotten) {
  StartServer();
  const std::string first = MustCreate();
  const std::string second = MustCreate();
  ASSERT_TRUE(executor_->WaitForLaunches(2));
  server_.reset();
  {
    auto store = Store::Open({.data_dir = options_.data_dir, .work_dir = options_.work_dir});
    ASSERT_TRUE(store.ok()) << store.status();
    for (const auto& [name, identity] : std::vector<std::pair<std::string, std::string>>{
             {first, "slurm/4711/3/normlab-x"}, {second, "slurm/4712/-/normlab-y"}}) {
      absl::Notification written;
      (*store)->UpdateJob(
          name.substr(5),
          [](v1::Job& job, std::vector<v1::Segment>& records) {
            return job.state() == v1::Job::QUEUED
                       ? BeginAttempt(job, {0}, 1 << 20, 0, absl::Now(), records)
                       : absl::OkStatus();
          },
          AttemptSecrets{.process_identity = identity},
          [&](const absl::StatusOr<v1::Job>& job) {
            EXPECT_TRUE(job.ok()) << job.status();
            written.Notify();
          });
      written.WaitForNotification();
    }
    (*store)->Close();
  }
  const auto refused =
      Server::Start(options_, {KnowsFashionMnist(), std::make_unique<FakeExecutor>()});
  ASSERT_TRUE(absl::IsFailedPrecondition(refused.status())) << refused.status();
  const std::string why(refused.status().message());
  EXPECT_THAT(why, HasSubstr("2 unfinished attempts"));
  EXPECT_THAT(why, HasSubstr("4711_3"));
  EXPECT_THAT(why, HasSubstr("4712"));
  EXPECT_THAT(why, HasSubstr("--executor=slurm"));
  EXPECT_THAT(why, HasSubstr("--abandon_slurm_attempts"));
  options_.abandon_slurm_attempts = true;
  StartServer();
  ASSERT_TRUE(executor_->WaitForLaunches(2)) << "their jobs are run again, here";
}

TEST_F(ServerTest, ASecondServerOnTheSameDataIsRefused) {
  StartServer();
  const auto second =
      Server::Start(options_, {std::make_unique<FakeHelper>(), std::make_unique<FakeExecutor>()});
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(std::string(second.status().message()),
              HasSubstr(absl::StrCat("process ", getpid())));
  EXPECT_EQ(Http("/readyz"), "200 ok\n");
}

TEST_F(ServerTest, ATakenPortIsAClearError) {
  StartServer();
  ServerOptions other = options_;
  other.data_dir = folder_ + "/other";
  other.work_dir = folder_ + "/other/work";
  other.listen.port = std::stoi(server_->grpc_address().substr(10));
  const auto second =
      Server::Start(other, {std::make_unique<FakeHelper>(), std::make_unique<FakeExecutor>()});
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("Address already in use"));
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("--listen"));
}

}  // namespace
}  // namespace normlab::server
