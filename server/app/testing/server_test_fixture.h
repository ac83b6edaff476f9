#pragma once

#include <httplib.h>
#include <stdlib.h>

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include <grpcpp/channel.h>
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include "server/app/server.h"
#include "server/executor/fake_executor.h"
#include "server/executor/fake_helper.h"

#include "normlab/v1/jobs.grpc.pb.h"
#include "normlab/v1/worker.grpc.pb.h"

namespace normlab::server {

// Only a bug waits so long.
inline constexpr absl::Duration kDeadline = absl::Seconds(60);

template <typename Condition>
bool Eventually(Condition condition) {
  const absl::Time deadline = absl::Now() + kDeadline;
  while (!condition()) {
    if (absl::Now() > deadline) {
      return false;
    }
    absl::SleepFor(absl::Milliseconds(1));
  }
  return true;
}

// A helper that answers nothing until it is destroyed.
class HangingHelper final : public Helper {
 public:
  explicit HangingHelper(std::shared_ptr<absl::Notification> asked) : asked_(std::move(asked)) {}
  ~HangingHelper() override {
    for (auto& callback : waiting_) {
      std::move(callback)(absl::UnavailableError("the helper is shutting down"));
    }
  }
  void Call(v1::HelperRequest /*request*/, absl::Duration /*timeout*/, Callback done) override {
    waiting_.push_back(std::move(done));
    asked_->Notify();
  }

 private:
  std::shared_ptr<absl::Notification> asked_;
  std::vector<Callback> waiting_;
};

// A whole server in this process, on free ports, whose helper and executor are fakes.
class ServerTest : public ::testing::Test {
 protected:
  ServerTest() {
    std::string pattern = absl::StrCat(::testing::TempDir(), "/server.XXXXXX");
    EXPECT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    options_.data_dir = folder_ + "/data";
    options_.work_dir = folder_ + "/data/work";
    options_.listen = {.host = "127.0.0.1", .port = 0, .loopback = true};
    options_.http_listen = options_.listen;
    options_.cores = {0, 1};
    options_.memory_bytes = int64_t{4} << 30;
    options_.pin = false;
    options_.worker_binary = "/bin/true";
    options_.port_file = folder_ + "/ports";
  }
  ~ServerTest() override {
    server_.reset();
    std::filesystem::remove_all(folder_);
  }

  static std::unique_ptr<FakeHelper> KnowsFashionMnist() {
    auto helper = std::make_unique<FakeHelper>();
    helper->SetHandler([](const v1::HelperRequest& request) {
      v1::HelperResponse response;
      response.set_id(request.id());
      if (request.has_engine_info()) {
        response.mutable_engine_info()->set_isa("FAKE");
        return response;
      }
      v1::DataReport& data = *response.mutable_data();
      data.set_data_cache("/cache/data");
      data.set_train_examples(60000);
      data.set_test_examples(10000);
      data.set_channels(1);
      data.set_height(28);
      data.set_width(28);
      data.set_classes(10);
      return response;
    });
    return helper;
  }

  void StartServer() {
    auto executor = std::make_unique<FakeExecutor>();
    executor_ = executor.get();
    ServerParts parts;
    parts.helper = KnowsFashionMnist();
    parts.executor = std::move(executor);
    parts.starter = KnowsFashionMnist();
    auto server = Server::Start(options_, std::move(parts));
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    channel_ = grpc::CreateChannel(server_->grpc_address(), grpc::InsecureChannelCredentials());
    jobs_ = v1::Jobs::NewStub(channel_);
  }

  static v1::CreateJobRequest CreateRequest() {
    v1::CreateJobRequest request;
    v1::JobSpec& spec = *request.mutable_job()->mutable_spec();
    spec.mutable_model()->mutable_mlp()->add_hidden(7);
    spec.mutable_data()->mutable_fashion_mnist();
    spec.set_steps(3);
    return request;
  }
  std::string MustCreate() {
    grpc::ClientContext context;
    v1::Job job;
    const grpc::Status status = jobs_->CreateJob(&context, CreateRequest(), &job);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return job.name();
  }
  v1::Job Get(const std::string& name) {
    grpc::ClientContext context;
    v1::GetJobRequest request;
    request.set_name(name);
    v1::Job job;
    EXPECT_TRUE(jobs_->GetJob(&context, request, &job).ok());
    return job;
  }
  std::string Http(const std::string& path) {
    const std::vector<std::string> parts = absl::StrSplit(server_->http_address(), ':');
    httplib::Client client(parts[0], std::stoi(parts[1]));
    const auto response = client.Get(path);
    return response ? absl::StrCat(response->status, " ", response->body) : "no answer";
  }
  // Does what a worker does: hello, one report of three steps, the outcome.
  static grpc::Status PlayWorker(const v1::WorkerAssignment& assignment) {
    auto stub = v1::Worker::NewStub(
        grpc::CreateChannel(assignment.server(), grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    auto stream = stub->Report(&context);
    v1::WorkerMessage message;
    v1::Hello& hello = *message.mutable_hello();
    hello.set_protocol_version(1);
    hello.set_job(assignment.job());
    hello.set_attempt(assignment.attempt());
    hello.set_secret(assignment.secret());
    stream->Write(message);
    v1::ServerMessage answer;
    if (!stream->Read(&answer)) {
      return stream->Finish();
    }
    EXPECT_TRUE(answer.has_welcome());
    v1::WorkerReport& report = *message.mutable_report();
    report.set_number(1);
    report.add_new_series()->set_id(1);
    report.mutable_new_series(0)->set_name("train/loss");
    v1::MetricBlock& block = *report.add_segments()->mutable_metrics();
    block.add_series(1);
    for (int step = 0; step < 3; ++step) {
      block.add_steps(step);
      block.add_values(1.0 / (step + 1));
      block.add_elapsed_us(step);
      report.add_step_seconds(1e-3F);
    }
    report.set_examples(192);
    report.mutable_outcome()->set_state(v1::Job::SUCCEEDED);
    report.mutable_outcome()->mutable_result()->set_steps(3);
    stream->Write(message);
    EXPECT_TRUE(stream->Read(&answer));
    EXPECT_EQ(answer.ack().report(), 1);
    stream->WritesDone();
    return stream->Finish();
  }

  ServerOptions options_;
  std::string folder_;
  std::unique_ptr<Server> server_;
  FakeExecutor* executor_ = nullptr;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Jobs::Stub> jobs_;
};

}  // namespace normlab::server
