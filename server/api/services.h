#pragma once

#include "server/api/backend.h"
#include "server/api/normalize.h"
#include "server/api/server_info.h"

#include "normlab/v1/jobs.grpc.pb.h"
#include "normlab/v1/normalization.grpc.pb.h"

namespace normlab::server {

// normlab.v1.Jobs: hands every call to its handler. Thread-safe. `backend` must outlive the
// grpc::Server.
class JobsService final : public v1::Jobs::CallbackService {
 public:
  explicit JobsService(Backend& backend) : backend_(backend) {}

  grpc::ServerUnaryReactor* CreateJob(grpc::CallbackServerContext* context,
                                      const v1::CreateJobRequest* request,
                                      v1::Job* response) override;
  grpc::ServerUnaryReactor* GetJob(grpc::CallbackServerContext* context,
                                   const v1::GetJobRequest* request,
                                   v1::Job* response) override;
  grpc::ServerUnaryReactor* ListJobs(grpc::CallbackServerContext* context,
                                     const v1::ListJobsRequest* request,
                                     v1::ListJobsResponse* response) override;
  grpc::ServerUnaryReactor* ListArtifacts(grpc::CallbackServerContext* context,
                                          const v1::ListArtifactsRequest* request,
                                          v1::ListArtifactsResponse* response) override;
  grpc::ServerWriteReactor<v1::ReadArtifactResponse>* ReadArtifact(
      grpc::CallbackServerContext* context, const v1::ReadArtifactRequest* request) override;
  grpc::ServerUnaryReactor* CancelJob(grpc::CallbackServerContext* context,
                                      const v1::CancelJobRequest* request,
                                      v1::Job* response) override;
  grpc::ServerUnaryReactor* PauseJob(grpc::CallbackServerContext* context,
                                     const v1::PauseJobRequest* request,
                                     v1::Job* response) override;
  grpc::ServerUnaryReactor* ResumeJob(grpc::CallbackServerContext* context,
                                      const v1::ResumeJobRequest* request,
                                      v1::Job* response) override;
  grpc::ServerUnaryReactor* UpdateJob(grpc::CallbackServerContext* context,
                                      const v1::UpdateJobRequest* request,
                                      v1::Job* response) override;
  grpc::ServerUnaryReactor* DeleteJob(grpc::CallbackServerContext* context,
                                      const v1::DeleteJobRequest* request,
                                      google::protobuf::Empty* response) override;
  grpc::ServerWriteReactor<v1::WatchJobResponse>* WatchJob(
      grpc::CallbackServerContext* context, const v1::WatchJobRequest* request) override;
  grpc::ServerWriteReactor<v1::ReadMetricsResponse>* ReadMetrics(
      grpc::CallbackServerContext* context, const v1::ReadMetricsRequest* request) override;
  grpc::ServerWriteReactor<v1::ReadLogsResponse>* ReadLogs(
      grpc::CallbackServerContext* context, const v1::ReadLogsRequest* request) override;

 private:
  Backend& backend_;
};

// normlab.v1.Normalization. Thread-safe. `backend` must outlive the grpc::Server.
class NormalizationService final : public v1::Normalization::CallbackService {
 public:
  explicit NormalizationService(Backend& backend) : backend_(backend) {}

  grpc::ServerUnaryReactor* Normalize(grpc::CallbackServerContext* context,
                                      const v1::NormalizeRequest* request,
                                      v1::NormalizeResponse* response) override;

 private:
  Backend& backend_;
  NormalizeQueue queue_;
};

// normlab.v1.Server. Thread-safe. `backend` must outlive the grpc::Server.
class ServerService final : public v1::Server::CallbackService {
 public:
  explicit ServerService(Backend& backend) : backend_(backend), reader_(backend) {}

  grpc::ServerUnaryReactor* GetServerInfo(grpc::CallbackServerContext* context,
                                          const v1::GetServerInfoRequest* request,
                                          v1::ServerInfo* response) override;

 private:
  Backend& backend_;
  ServerInfoReader reader_;
};

}  // namespace normlab::server
