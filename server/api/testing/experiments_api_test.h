#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "server/api/testing/api_test.h"

namespace normlab::server {

// For tests of the calls about experiments.
class ExperimentsApiTest : public ApiTest {
 protected:
  // Two normalizations by two rates, with these seeds.
  static v1::CreateExperimentRequest GridRequest(const std::vector<uint32_t>& seeds = {3, 5, 4}) {
    v1::CreateExperimentRequest request;
    v1::Experiment& experiment = *request.mutable_experiment();
    experiment.set_display_name("a grid");
    *experiment.mutable_base() = ValidSpec();
    AddAxis(experiment, "normalization", {"none", "batch"});
    AddAxis(experiment, "optimizer.sgd.learning_rate", {"0.1", "0.5"});
    experiment.mutable_design()->mutable_seeds()->Add(seeds.begin(), seeds.end());
    return request;
  }
  static void AddAxis(v1::Experiment& experiment,
                      const std::string& field,
                      const std::vector<std::string>& values) {
    v1::Axis& axis = *experiment.mutable_design()->add_axes();
    axis.set_field(field);
    axis.mutable_values()->Add(values.begin(), values.end());
  }

  grpc::Status Create(const v1::CreateExperimentRequest& request, v1::Experiment& experiment) {
    grpc::ClientContext context;
    return experiments_->CreateExperiment(&context, request, &experiment);
  }
  v1::Experiment MustCreate(const v1::CreateExperimentRequest& request = GridRequest()) {
    v1::Experiment experiment;
    const grpc::Status status = Create(request, experiment);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return experiment;
  }
  v1::Experiment Get(const std::string& name) {
    grpc::ClientContext context;
    v1::GetExperimentRequest request;
    request.set_name(name);
    v1::Experiment experiment;
    const grpc::Status status = experiments_->GetExperiment(&context, request, &experiment);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return experiment;
  }
  v1::Job GetJob(const std::string& name) {
    grpc::ClientContext context;
    v1::GetJobRequest request;
    request.set_name(name);
    v1::Job job;
    EXPECT_TRUE(jobs_->GetJob(&context, request, &job).ok());
    return job;
  }
  grpc::Status Cancel(const std::string& name, v1::Experiment& experiment) {
    grpc::ClientContext context;
    v1::CancelExperimentRequest request;
    request.set_name(name);
    return experiments_->CancelExperiment(&context, request, &experiment);
  }
  grpc::Status Delete(const std::string& name, bool force = false, bool allow_missing = false) {
    grpc::ClientContext context;
    v1::DeleteExperimentRequest request;
    request.set_name(name);
    request.set_force(force);
    request.set_allow_missing(allow_missing);
    google::protobuf::Empty empty;
    return experiments_->DeleteExperiment(&context, request, &empty);
  }
  grpc::Status Summarize(const v1::SummarizeExperimentRequest& request,
                         v1::ExperimentSummary& summary) {
    grpc::ClientContext context;
    return experiments_->SummarizeExperiment(&context, request, &summary);
  }
  // Runs a job to its end with one value of train/loss.
  void Finish(const std::string& job, v1::Job::State state, double loss) {
    StartAttempt(job);
    v1::WorkerReport report;
    report.set_number(1);
    v1::Series& series = *report.add_new_series();
    series.set_id(1);
    series.set_name("train/loss");
    v1::MetricBlock& block = *report.add_segments()->mutable_metrics();
    block.add_series(1);
    block.add_steps(9);
    block.add_values(loss);
    report.mutable_outcome()->set_state(state);
    report.mutable_outcome()->mutable_result()->set_steps(10);
    Append(job, std::move(report));
  }
  // What gRPC sends of a watched experiment, in order.
  std::vector<v1::Experiment> WatchAll(const std::string& name) {
    grpc::ClientContext context;
    v1::WatchExperimentRequest request;
    request.set_name(name);
    const auto stream = experiments_->WatchExperiment(&context, request);
    std::vector<v1::Experiment> messages;
    v1::Experiment message;
    while (stream->Read(&message)) {
      messages.push_back(message);
    }
    const grpc::Status status = stream->Finish();
    EXPECT_TRUE(status.ok()) << status.error_message();
    return messages;
  }
};

}  // namespace normlab::server
