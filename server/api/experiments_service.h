#pragma once

#include "server/api/backend.h"

#include "normlab/v1/experiments.grpc.pb.h"

namespace normlab::server {

// normlab.v1.Experiments: hands every call to its handler. Thread-safe. `backend` must outlive the
// grpc::Server.
class ExperimentsService final : public v1::Experiments::CallbackService {
 public:
  explicit ExperimentsService(Backend& backend) : backend_(backend) {}

  grpc::ServerUnaryReactor* CreateExperiment(grpc::CallbackServerContext* context,
                                             const v1::CreateExperimentRequest* request,
                                             v1::Experiment* response) override;
  grpc::ServerUnaryReactor* GetExperiment(grpc::CallbackServerContext* context,
                                          const v1::GetExperimentRequest* request,
                                          v1::Experiment* response) override;
  grpc::ServerUnaryReactor* ListExperiments(grpc::CallbackServerContext* context,
                                            const v1::ListExperimentsRequest* request,
                                            v1::ListExperimentsResponse* response) override;
  grpc::ServerUnaryReactor* CancelExperiment(grpc::CallbackServerContext* context,
                                             const v1::CancelExperimentRequest* request,
                                             v1::Experiment* response) override;
  grpc::ServerUnaryReactor* DeleteExperiment(grpc::CallbackServerContext* context,
                                             const v1::DeleteExperimentRequest* request,
                                             google::protobuf::Empty* response) override;
  grpc::ServerWriteReactor<v1::Experiment>* WatchExperiment(
      grpc::CallbackServerContext* context, const v1::WatchExperimentRequest* request) override;
  grpc::ServerUnaryReactor* SummarizeExperiment(grpc::CallbackServerContext* context,
                                                const v1::SummarizeExperimentRequest* request,
                                                v1::ExperimentSummary* response) override;

 private:
  Backend& backend_;
};

}  // namespace normlab::server
