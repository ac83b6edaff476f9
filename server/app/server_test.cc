#include "server/app/server.h"

#include <httplib.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>

#include "common/atomic_file.h"
#include "common/subprocess.h"
#include "server/executor/fake_executor.h"
#include "server/executor/fake_helper.h"

#include "normlab/v1/jobs.grpc.pb.h"
#include "normlab/v1/worker.grpc.pb.h"

namespace normlab::server {
namespace {

using ::testing::HasSubstr;

// Only a bug waits so long.
constexpr absl::Duration kDeadline = absl::Seconds(60);

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

  void StartServer() {
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
    auto executor = std::make_unique<FakeExecutor>();
    executor_ = executor.get();
    auto server = Server::Start(options_, {std::move(helper), std::move(executor)});
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
  EXPECT_THAT(scrape, HasSubstr("normlab_steps_total 3"));
  EXPECT_THAT(scrape, HasSubstr("normlab_examples_total 192"));
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
  if (std::system("command -v promtool >/dev/null 2>&1") == 0) {
    std::ofstream(folder_ + "/scrape") << scrape.substr(4);
    EXPECT_EQ(std::system(absl::StrCat("promtool check metrics < ", folder_, "/scrape").c_str()),
              0);
  } else {
    std::puts("promtool is not installed: the scrape was not checked with it");
  }
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

// The program itself.
class NormlabdTest : public ServerTest {
 protected:
  common::Subprocess Run(std::vector<std::string> flags) {
    std::vector<std::string> argv = {NORMLABD_BINARY,
                                     "--data_dir=" + options_.data_dir,
                                     "--listen=127.0.0.1:0",
                                     "--http_listen=127.0.0.1:0",
                                     "--worker_binary=/bin/true",
                                     "--port_file=" + options_.port_file};
    argv.insert(argv.end(), flags.begin(), flags.end());
    std::vector<std::string> environment;
    for (const char* name : {"PATH", "LD_LIBRARY_PATH", "ASAN_OPTIONS", "TSAN_OPTIONS",
                             "UBSAN_OPTIONS", "LSAN_OPTIONS"}) {
      if (const char* value = getenv(name)) {
        environment.push_back(absl::StrCat(name, "=", value));
      }
    }
    auto process = common::Subprocess::Start(
        {.argv = argv, .environment = environment, .output_path = folder_ + "/log"});
    EXPECT_TRUE(process.ok()) << process.status();
    return *std::move(process);
  }
  static std::string Ending(const common::Subprocess& process) {
    EXPECT_TRUE(Eventually([&] { return process.HasEnded(); }));
    const auto exit = process.Reap();
    return exit.ok() ? exit->ToString() : exit.status().ToString();
  }
  bool WaitUntilReady() {
    return Eventually([&] { return std::filesystem::exists(options_.port_file); });
  }
  std::string Log() { return common::ReadFile(folder_ + "/log").value_or(""); }
};

TEST_F(NormlabdTest, EndsCleanlyOnSigtermAndSigint) {
  for (const int signal : {SIGTERM, SIGINT}) {
    std::filesystem::remove(options_.port_file);
    const common::Subprocess process = Run({});
    ASSERT_TRUE(WaitUntilReady()) << Log();
    ASSERT_TRUE(process.Signal(signal).ok());
    EXPECT_EQ(Ending(process), "exit code 0") << Log();
  }
  EXPECT_THAT(Log(), HasSubstr("is ready"));
  EXPECT_THAT(Log(), HasSubstr("stopped"));
}

TEST_F(NormlabdTest, ASecondOneIsRefusedAndAKilledOneLeavesNoLock) {
  const common::Subprocess first = Run({});
  ASSERT_TRUE(WaitUntilReady()) << Log();
  EXPECT_EQ(Ending(Run({})), "exit code 1");
  EXPECT_THAT(Log(), HasSubstr(absl::StrCat("process ", first.pid())));
  ASSERT_TRUE(first.Signal(SIGKILL).ok());
  Ending(first);
  std::filesystem::remove(options_.port_file);
  const common::Subprocess next = Run({});
  ASSERT_TRUE(WaitUntilReady()) << Log();
  ASSERT_TRUE(next.Signal(SIGTERM).ok());
  EXPECT_EQ(Ending(next), "exit code 0") << Log();
}

// Two signals at once must not end it uncleanly either.
TEST_F(NormlabdTest, ASecondSignalDuringTheShutdownIsHarmless) {
  const common::Subprocess process = Run({});
  ASSERT_TRUE(WaitUntilReady()) << Log();
  ASSERT_TRUE(process.Signal(SIGTERM).ok());
  ASSERT_TRUE(process.Signal(SIGINT).ok());
  EXPECT_EQ(Ending(process), "exit code 0") << Log();
}

TEST_F(NormlabdTest, RefusesAnOpenAddressWithAdvice) {
  EXPECT_EQ(Ending(Run({"--listen=0.0.0.0:0"})), "exit code 2");
  EXPECT_THAT(Log(), HasSubstr("ssh -L"));
  EXPECT_EQ(Ending(Run({"stray"})), "exit code 2");
  EXPECT_EQ(Ending(Run({"--log_level=loud"})), "exit code 2");
  EXPECT_EQ(Ending(Run({"--memory=lots"})), "exit code 1");
}

TEST_F(NormlabdTest, HelpAndVersionNeedNothing) {
  EXPECT_EQ(Ending(Run({"--help"})), "exit code 0");
  EXPECT_THAT(Log(), HasSubstr("What jobs may use"));
  EXPECT_EQ(Ending(Run({"--version"})), "exit code 0");
  EXPECT_THAT(Log(), HasSubstr("normlabd 0."));
  EXPECT_FALSE(std::filesystem::exists(options_.data_dir));
}

}  // namespace
}  // namespace normlab::server
