#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include "server/monitor/grpc_metrics.h"
#include "server/monitor/http_server.h"
#include "server/monitor/metrics.h"

#include "normlab/v1/jobs.grpc.pb.h"
#include <arpa/inet.h>

namespace normlab::server {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// The line of a sample: "name{labels} value".
std::string Sample(const std::string& text, const std::string& name_and_labels) {
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    if (absl::StartsWith(line, name_and_labels + " ")) {
      return std::string(line.substr(name_and_labels.size() + 1));
    }
  }
  return "absent";
}

std::set<std::string> Families(const std::string& text) {
  std::set<std::string> names;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    if (absl::StartsWith(line, "# TYPE ")) {
      names.insert(std::vector<std::string>(absl::StrSplit(line, ' '))[2]);
    }
  }
  return names;
}

int SampleCount(const std::string& text) {
  int count = 0;
  for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    count += absl::StartsWith(line, "#") ? 0 : 1;
  }
  return count;
}

// One request on a connection of its own; the whole answer.
std::string Http(int port, const std::string& request) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::string answer;
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) {
    const std::string text =
        absl::StrCat(request, " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    EXPECT_EQ(write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
    char buffer[4096];
    ssize_t bytes = 0;
    while ((bytes = read(fd, buffer, sizeof(buffer))) > 0) {
      answer.append(buffer, bytes);
    }
  }
  close(fd);
  return answer;
}

TEST(MetricsTest, EverythingExistsAtZeroFromTheStart) {
  Metrics metrics("1.2.3");
  const std::string text = metrics.Scrape();
  for (const char* name : {"normlab_jobs",
                           "normlab_job_transitions_total",
                           "normlab_queue_depth",
                           "normlab_queue_wait_seconds",
                           "normlab_steps_total",
                           "normlab_examples_total",
                           "normlab_step_duration_seconds",
                           "normlab_metric_points_total",
                           "normlab_attempts_total",
                           "normlab_attempts_started_total",
                           "normlab_commit_duration_seconds",
                           "normlab_commit_operations_total",
                           "normlab_stream_subscribers",
                           "normlab_streams_cut_off_total",
                           "normlab_replay_mismatches_total",
                           "normlab_cores",
                           "normlab_memory_bytes",
                           "normlab_store_healthy",
                           "normlab_build_info",
                           "process_cpu_seconds_total",
                           "process_resident_memory_bytes",
                           "process_virtual_memory_bytes",
                           "process_open_fds",
                           "process_max_fds",
                           "process_start_time_seconds",
                           "grpc_server_started_total",
                           "grpc_server_handled_total",
                           "grpc_server_msg_received_total",
                           "grpc_server_msg_sent_total",
                           "grpc_server_handling_seconds"}) {
    EXPECT_TRUE(Families(text).contains(name)) << name;
  }
  EXPECT_EQ(Sample(text, "normlab_jobs{state=\"RUNNING\"}"), "0");
  EXPECT_EQ(Sample(text, "normlab_build_info{version=\"1.2.3\"}"), "1");
  EXPECT_EQ(Sample(text, "normlab_steps_total"), "0");
  EXPECT_EQ(Sample(text, "normlab_attempts_total{outcome=\"WORKER_CRASHED\"}"), "0");
  EXPECT_EQ(Sample(text,
                   "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"CreateJob\","
                   "grpc_service=\"normlab.v1.Jobs\",grpc_type=\"unary\"}"),
            "0");
  EXPECT_EQ(Sample(text,
                   "grpc_server_started_total{grpc_method=\"WatchJob\",grpc_service=\"normlab.v1."
                   "Jobs\",grpc_type=\"server_stream\"}"),
            "0");
  EXPECT_THAT(text, Not(HasSubstr("STATE_UNSPECIFIED")));
}

// The budget of time series that one server may make, whatever happens to it.
TEST(MetricsTest, NumberOfSeriesIsFixedAndSmall) {
  constexpr int kSeriesBudget = 700;
  Metrics metrics("1.2.3");
  const int before = SampleCount(metrics.Scrape());
  for (int state = 0; state <= v1::Job::State_MAX + 2; ++state) {
    for (int reason = 0; reason <= v1::FailureReason::Kind_MAX + 2; ++reason) {
      metrics.OnTransition(static_cast<v1::Job::State>(state),
                           static_cast<v1::FailureReason::Kind>(reason));
      metrics.OnAttemptEnded(static_cast<v1::Job::State>(state),
                             static_cast<v1::FailureReason::Kind>(reason));
    }
  }
  metrics.OnReport(3, 30, {1e-3F, 2e-3F, 3e-3F}, 9);
  EXPECT_EQ(SampleCount(metrics.Scrape()), before);
  EXPECT_LT(before, kSeriesBudget);
}

TEST(MetricsTest, EventsAreCounted) {
  Metrics metrics("1.2.3");
  metrics.OnTransition(v1::Job::FAILED, v1::FailureReason::OUT_OF_MEMORY);
  metrics.OnTransition(v1::Job::QUEUED, v1::FailureReason::FAILURE_REASON_UNSPECIFIED);
  metrics.OnTransition(v1::Job::QUEUED, v1::FailureReason::SERVER_LOST);
  metrics.OnAttemptStarted();
  metrics.OnAttemptEnded(v1::Job::DIVERGED, v1::FailureReason::FAILURE_REASON_UNSPECIFIED);
  metrics.OnAttemptEnded(v1::Job::FAILED, v1::FailureReason::OUT_OF_MEMORY);
  metrics.OnQueueWait(2);
  metrics.OnReplayMismatch(5);
  metrics.OnCommit(0.0002, 7);
  metrics.OnSlowReaderCutOff();
  const std::string text = metrics.Scrape();
  EXPECT_EQ(
      Sample(text, "normlab_job_transitions_total{reason=\"OUT_OF_MEMORY\",state=\"FAILED\"}"),
      "1");
  EXPECT_EQ(Sample(text, "normlab_job_transitions_total{reason=\"none\",state=\"QUEUED\"}"), "1");
  EXPECT_EQ(Sample(text, "normlab_job_transitions_total{reason=\"SERVER_LOST\",state=\"QUEUED\"}"),
            "1");
  EXPECT_EQ(Sample(text, "normlab_attempts_started_total"), "1");
  EXPECT_EQ(Sample(text, "normlab_attempts_total{outcome=\"DIVERGED\"}"), "1");
  EXPECT_EQ(Sample(text, "normlab_attempts_total{outcome=\"OUT_OF_MEMORY\"}"), "1");
  EXPECT_EQ(Sample(text, "normlab_queue_wait_seconds_sum"), "2");
  EXPECT_EQ(Sample(text, "normlab_replay_mismatches_total"), "5");
  EXPECT_EQ(Sample(text, "normlab_commit_operations_total"), "7");
  EXPECT_EQ(Sample(text, "normlab_commit_duration_seconds_bucket{le=\"0.00025\"}"), "1");
  EXPECT_EQ(Sample(text, "normlab_streams_cut_off_total"), "1");
}

TEST(MetricsTest, StepDurationsFallIntoTheirBuckets) {
  Metrics metrics("1.2.3");
  metrics.OnReport(4, 240, {40e-6F, 250e-6F, 20.0F, std::numeric_limits<float>::quiet_NaN()}, 12);
  const std::string text = metrics.Scrape();
  EXPECT_EQ(Sample(text, "normlab_steps_total"), "4");
  EXPECT_EQ(Sample(text, "normlab_examples_total"), "240");
  EXPECT_EQ(Sample(text, "normlab_metric_points_total"), "12");
  // NaN counts as 0: a NaN in the sum would stay for ever.
  EXPECT_EQ(Sample(text, "normlab_step_duration_seconds_bucket{le=\"5e-05\"}"), "2");
  EXPECT_EQ(Sample(text, "normlab_step_duration_seconds_bucket{le=\"0.0002\"}"), "2");
  EXPECT_EQ(Sample(text, "normlab_step_duration_seconds_bucket{le=\"0.0005\"}"), "3");
  EXPECT_EQ(Sample(text, "normlab_step_duration_seconds_bucket{le=\"10\"}"), "3");
  EXPECT_EQ(Sample(text, "normlab_step_duration_seconds_bucket{le=\"+Inf\"}"), "4");
  EXPECT_NEAR(std::stod(Sample(text, "normlab_step_duration_seconds_sum")), 20.00029, 1e-5);
}

TEST(MetricsTest, GaugesAreSampledUntilTold) {
  Metrics metrics("1.2.3");
  int calls = 0;
  metrics.SetSampler([&calls] {
    ++calls;
    return ServiceSample{.jobs = {{v1::Job::QUEUED, 3}, {v1::Job::FAILED, 2}},
                         .queue_depth = 3,
                         .stream_subscribers = 4,
                         .cores_capacity = 8,
                         .cores_reserved = 5,
                         .memory_bytes_capacity = int64_t{1} << 40,
                         .memory_bytes_reserved = 12345678901,
                         .store_healthy = false};
  });
  const std::string text = metrics.Scrape();
  EXPECT_EQ(Sample(text, "normlab_jobs{state=\"QUEUED\"}"), "3");
  EXPECT_EQ(Sample(text, "normlab_jobs{state=\"FAILED\"}"), "2");
  EXPECT_EQ(Sample(text, "normlab_queue_depth"), "3");
  EXPECT_EQ(Sample(text, "normlab_stream_subscribers"), "4");
  EXPECT_EQ(Sample(text, "normlab_cores{kind=\"reserved\"}"), "5");
  EXPECT_EQ(Sample(text, "normlab_memory_bytes{kind=\"reserved\"}"), "12345678901");
  EXPECT_EQ(Sample(text, "normlab_store_healthy"), "0");
  metrics.StopSampling();
  EXPECT_EQ(Sample(metrics.Scrape(), "normlab_jobs{state=\"QUEUED\"}"), "3");
  EXPECT_EQ(calls, 1);
}

TEST(MetricsTest, ProcessMetricsAreOfThisProcess) {
  Metrics metrics("1.2.3");
  const std::string text = metrics.Scrape();
  const double resident = std::stod(Sample(text, "process_resident_memory_bytes"));
  EXPECT_GT(resident, 1e6);
  EXPECT_LT(resident, std::stod(Sample(text, "process_virtual_memory_bytes")));
  const double start = std::stod(Sample(text, "process_start_time_seconds"));
  // A test runs for minutes at most, and boot time is known to the second.
  EXPECT_NEAR(start, static_cast<double>(time(nullptr)), 1000);
  EXPECT_GE(std::stod(Sample(text, "process_open_fds")), 3);
}

TEST(MetricsTest, PromtoolAcceptsTheExposition) {
  if (std::system("command -v promtool >/dev/null 2>&1") != 0) {
    GTEST_SKIP() << "SKIPPED: promtool is not installed; apt-get install prometheus";
  }
  Metrics metrics("1.2.3");
  metrics.OnReport(1, 60, {1e-3F}, 3);
  const std::string path = ::testing::TempDir() + absl::StrCat("/metrics.", getpid());
  std::ofstream(path) << metrics.Scrape();
  EXPECT_EQ(std::system(absl::StrCat("promtool check metrics < ", path).c_str()), 0);
  unlink(path.c_str());
}

class HttpServerTest : public ::testing::Test {
 protected:
  HttpServerTest() {
    auto server = HttpServer::Start({.host = "127.0.0.1",
                                     .port = 0,
                                     .metrics = [this] { return metrics_.Scrape(); },
                                     .ready = [this]() -> absl::Status {
                                       return ready_ ? absl::OkStatus()
                                                     : absl::UnavailableError("the disk is full");
                                     }});
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  Metrics metrics_{"1.2.3"};
  std::atomic<bool> ready_ = true;
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpServerTest, ServesMetricsWithTheirContentType) {
  const std::string answer = Http(server_->port(), "GET /metrics");
  EXPECT_THAT(answer, HasSubstr("HTTP/1.1 200"));
  EXPECT_THAT(answer, HasSubstr("Content-Type: text/plain; version=0.0.4; charset=utf-8"));
  EXPECT_THAT(answer, HasSubstr("normlab_build_info{version=\"1.2.3\"} 1"));
}

TEST_F(HttpServerTest, AnswersHeadWithoutABody) {
  for (const char* path : {"/metrics", "/healthz", "/readyz"}) {
    const std::string answer = Http(server_->port(), absl::StrCat("HEAD ", path));
    EXPECT_THAT(answer, HasSubstr("HTTP/1.1 200")) << path;
    EXPECT_TRUE(absl::EndsWith(answer, "\r\n\r\n")) << path;
  }
}

TEST_F(HttpServerTest, ReadinessCarriesTheReasonAndLivenessDoesNotCare) {
  EXPECT_THAT(Http(server_->port(), "GET /readyz"), HasSubstr("HTTP/1.1 200"));
  ready_ = false;
  const std::string answer = Http(server_->port(), "GET /readyz");
  EXPECT_THAT(answer, HasSubstr("HTTP/1.1 503"));
  EXPECT_THAT(answer, HasSubstr("the disk is full"));
  EXPECT_THAT(Http(server_->port(), "GET /healthz"), HasSubstr("HTTP/1.1 200"));
}

TEST_F(HttpServerTest, SaysWhatThereIs) {
  const std::string answer = Http(server_->port(), "GET /");
  EXPECT_THAT(answer, HasSubstr("HTTP/1.1 404"));
  EXPECT_THAT(answer, HasSubstr("/metrics, /healthz and /readyz"));
}

TEST_F(HttpServerTest, ATakenPortIsAnError) {
  const auto second = HttpServer::Start({.host = "127.0.0.1",
                                         .port = server_->port(),
                                         .metrics = [] { return std::string(); },
                                         .ready = [] { return absl::OkStatus(); }});
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("Address already in use"));
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("--http_listen"));
}

TEST_F(HttpServerTest, ManyScrapesAtOnce) {
  std::vector<std::thread> clients;
  std::atomic<int> answered = 0;
  for (int i = 0; i < 50; ++i) {
    clients.emplace_back([this, &answered] {
      answered += absl::StrContains(Http(server_->port(), "GET /metrics"), " 200 ") ? 1 : 0;
    });
  }
  for (std::thread& client : clients) {
    client.join();
  }
  EXPECT_EQ(answered.load(), 50);
}

// Answers with what the request asks for, so that every kind of end is counted.
class TestJobs final : public v1::Jobs::CallbackService {
 public:
  grpc::ServerUnaryReactor* GetJob(grpc::CallbackServerContext* context,
                                   const v1::GetJobRequest* request,
                                   v1::Job* /*response*/) override {
    auto* reactor = context->DefaultReactor();
    reactor->Finish(request->name().empty() ? grpc::Status(grpc::StatusCode::NOT_FOUND, "no name")
                                            : grpc::Status::OK);
    return reactor;
  }
  grpc::ServerWriteReactor<v1::WatchJobResponse>* WatchJob(
      grpc::CallbackServerContext* /*context*/, const v1::WatchJobRequest* /*request*/) override {
    class ThreeMessages final : public grpc::ServerWriteReactor<v1::WatchJobResponse> {
     public:
      ThreeMessages() { StartWrite(&message_); }
      void OnWriteDone(bool /*ok*/) override {
        if (++sent_ < 3) {
          StartWrite(&message_);
        } else {
          Finish(grpc::Status::OK);
        }
      }
      void OnDone() override { delete this; }

     private:
      v1::WatchJobResponse message_;
      int sent_ = 0;
    };
    return new ThreeMessages;
  }
};

TEST(GrpcMetricsTest, CountsCallsMessagesAndCodes) {
  Metrics metrics("1.2.3");
  TestJobs service;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service);
  builder.experimental().SetInterceptorCreators(metrics.grpc().MakeInterceptors());
  auto server = builder.BuildAndStart();
  auto stub = v1::Jobs::NewStub(
      grpc::CreateChannel(absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials()));
  v1::Job job;
  v1::GetJobRequest get;
  get.set_name("jobs/x");
  for (int i = 0; i < 2; ++i) {
    grpc::ClientContext context;
    ASSERT_TRUE(stub->GetJob(&context, get, &job).ok());
  }
  {
    grpc::ClientContext context;
    ASSERT_FALSE(stub->GetJob(&context, v1::GetJobRequest(), &job).ok());
  }
  {
    grpc::ClientContext context;
    auto reader = stub->WatchJob(&context, v1::WatchJobRequest());
    v1::WatchJobResponse response;
    while (reader->Read(&response)) {
    }
    ASSERT_TRUE(reader->Finish().ok());
  }
  {
    grpc::ClientContext context;
    v1::Job ignored;
    EXPECT_EQ(stub->CreateJob(&context, v1::CreateJobRequest(), &ignored).error_code(),
              grpc::StatusCode::UNIMPLEMENTED);
  }
  server->Shutdown();
  server.reset();

  const std::string text = metrics.Scrape();
  const std::string get_labels =
      "grpc_method=\"GetJob\",grpc_service=\"normlab.v1.Jobs\",grpc_type=\"unary\"}";
  EXPECT_EQ(Sample(text, absl::StrCat("grpc_server_started_total{", get_labels)), "3");
  EXPECT_EQ(Sample(text, absl::StrCat("grpc_server_handled_total{grpc_code=\"OK\",", get_labels)),
            "2");
  EXPECT_EQ(
      Sample(text, absl::StrCat("grpc_server_handled_total{grpc_code=\"NotFound\",", get_labels)),
      "1");
  EXPECT_EQ(Sample(text, absl::StrCat("grpc_server_msg_received_total{", get_labels)), "3");
  EXPECT_EQ(Sample(text, absl::StrCat("grpc_server_msg_sent_total{", get_labels)), "2");
  EXPECT_EQ(Sample(text, absl::StrCat("grpc_server_handling_seconds_count{", get_labels)), "3");
  const std::string watch_labels =
      "grpc_method=\"WatchJob\",grpc_service=\"normlab.v1.Jobs\",grpc_type=\"server_stream\"}";
  EXPECT_EQ(Sample(text, absl::StrCat("grpc_server_msg_received_total{", watch_labels)), "1");
  EXPECT_EQ(Sample(text, absl::StrCat("grpc_server_msg_sent_total{", watch_labels)), "3");
  EXPECT_EQ(Sample(text, absl::StrCat("grpc_server_handled_total{grpc_code=\"OK\",", watch_labels)),
            "1");
}

}  // namespace
}  // namespace normlab::server
