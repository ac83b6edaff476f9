#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "google/rpc/error_details.pb.h"
#include <grpcpp/channel.h>
#include <grpcpp/server.h>
#include <gtest/gtest.h>

#include "server/api/backend.h"
#include "server/api/experiments_service.h"
#include "server/api/services.h"
#include "server/api/testing/fake_controller.h"
#include "server/executor/fake_helper.h"
#include "server/store/store.h"
#include "server/stream/hub.h"

#include "normlab/v1/experiments.grpc.pb.h"
#include "normlab/v1/jobs.grpc.pb.h"

namespace normlab::server {

// The handlers behind a real grpc::Server on a free port, over a real store in a folder of its own;
// controller and helper are fakes. A test that wants other settings changes them before Serve.
class ApiTest : public ::testing::Test {
 protected:
  ApiTest();
  ~ApiTest() override;

  void Serve();
  // Ends the listener and everything behind it; the store's folder stays for the test.
  void StopServing();

  // A small valid spec, and a request for it.
  static v1::JobSpec ValidSpec();
  static v1::CreateJobRequest CreateRequest(const v1::JobSpec& spec,
                                            const std::string& request_id = "");
  v1::Job MustCreate(const v1::JobSpec& spec = ValidSpec(), const std::string& request_id = "");

  // Writes as the controller and the worker service would.
  void StartAttempt(const std::string& name);
  // `steps` records of train/loss from `first_step`; the value of a step is its number plus a
  // quarter.
  void Report(const std::string& name, int64_t number, int64_t first_step, int steps);
  void ReportLog(const std::string& name, int64_t number, const std::string& text);
  void ReportSuccess(const std::string& name, int64_t number);
  void Append(const std::string& name, v1::WorkerReport report);
  // A job that has succeeded after so many reports.
  std::string FinishedJob(int reports, int steps_per_report);

  // The detail of that type in an RPC's error; a test failure when there is none.
  template <typename Detail>
  static Detail DetailOf(const grpc::Status& status) {
    Detail detail;
    EXPECT_TRUE(FindDetail(status, Detail::descriptor()->full_name(), detail))
        << status.error_message();
    return detail;
  }
  // Fields of its BadRequest, in order.
  static std::vector<std::string> ViolatedFields(const grpc::Status& status);
  static std::string Reason(const grpc::Status& status) {
    return DetailOf<google::rpc::ErrorInfo>(status).reason();
  }

  // What to put between the handlers and the store; null: nothing.
  std::function<std::unique_ptr<Store>(std::unique_ptr<Store>)> wrap_store_;
  ApiOptions options_;
  StreamRegistry::Options stream_options_;
  FakeController controller_;
  FakeHelper helper_;
  FakeHelper normalizer_;
  Hub hub_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<WorkPool> pool_;
  std::unique_ptr<WorkPool> stream_pool_;
  std::unique_ptr<StreamRegistry> streams_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<JobsService> jobs_service_;
  std::unique_ptr<ExperimentsService> experiments_service_;
  std::unique_ptr<NormalizationService> normalization_service_;
  std::unique_ptr<ServerService> server_service_;
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Jobs::Stub> jobs_;
  std::unique_ptr<v1::Experiments::Stub> experiments_;
  std::unique_ptr<v1::Normalization::Stub> normalization_;
  std::unique_ptr<v1::Server::Stub> info_;

 private:
  static bool FindDetail(const grpc::Status& status,
                         const std::string& type,
                         google::protobuf::Message& detail);
  std::string folder_;
};

}  // namespace normlab::server
