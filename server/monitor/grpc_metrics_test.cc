#include "server/monitor/grpc_metrics.h"

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include <grpcpp/create_channel.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include "server/monitor/metrics.h"
#include "server/monitor/testing.h"

#include "normlab/v1/jobs.grpc.pb.h"

namespace normlab::server {
namespace {

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
