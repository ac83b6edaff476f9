#pragma once

#include "server/api/testing/api_test.h"

namespace normlab::server {

// Calls of CreateJob, whatever they are about.
class CreateJobTest : public ApiTest {
 protected:
  grpc::Status Create(const v1::CreateJobRequest& request, v1::Job* job = nullptr) {
    grpc::ClientContext context;
    v1::Job ignored;
    return jobs_->CreateJob(&context, request, job != nullptr ? job : &ignored);
  }
  int StoredJobs() {
    grpc::ClientContext context;
    v1::ListJobsResponse response;
    EXPECT_TRUE(jobs_->ListJobs(&context, v1::ListJobsRequest(), &response).ok());
    return response.jobs_size();
  }
  // The helper finds what a missing file looks like.
  void LoseData() {
    helper_.SetHandler([](const v1::HelperRequest& request) -> absl::StatusOr<v1::HelperResponse> {
      v1::HelperResponse response;
      response.set_id(request.id());
      v1::SpecViolation& violation = *response.mutable_data()->add_violations();
      violation.set_field("data.fashion_mnist.path");
      violation.set_description("there is no train-images-idx3-ubyte; install it");
      return response;
    });
  }
};

}  // namespace normlab::server
