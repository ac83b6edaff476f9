#include "server/api/services.h"

#include <memory>
#include <utility>

#include "server/api/artifacts.h"
#include "server/api/caller.h"
#include "server/api/cancel_job.h"
#include "server/api/create_job.h"
#include "server/api/delete_job.h"
#include "server/api/open_stream.h"
#include "server/api/pause_job.h"
#include "server/api/read_jobs.h"
#include "server/api/read_logs.h"
#include "server/api/read_metrics.h"
#include "server/api/resume_job.h"
#include "server/api/unary.h"
#include "server/api/update_job.h"
#include "server/api/watch_job.h"

namespace normlab::server {

grpc::ServerUnaryReactor* JobsService::CreateJob(grpc::CallbackServerContext* context,
                                                 const v1::CreateJobRequest* request,
                                                 v1::Job* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  absl::StatusOr<Caller> caller = Authorize(backend_, *context, "CreateJob");
  if (!caller.ok()) {
    reactor->Finish(ToGrpcStatus(caller.status()));
    return reactor;
  }
  const bool accepted = backend_.pool.TryPost(
      [this, context, request, response, reactor, caller = *std::move(caller)] {
        StartCreateJob(backend_, caller, *request,
                       [this, caller, context, response, reactor](absl::StatusOr<v1::Job> job) {
                         Audit(backend_, caller, "CreateJob", job.ok() ? job->name() : "", *context,
                               job.status());
                         if (job.ok()) {
                           *response = *std::move(job);
                         }
                         reactor->Finish(ToGrpcStatus(job.status()));
                       });
      });
  if (!accepted) {
    reactor->Finish(ToGrpcStatus(Overloaded(kOverloadRetry)));
  }
  return reactor;
}

grpc::ServerUnaryReactor* JobsService::GetJob(grpc::CallbackServerContext* context,
                                              const v1::GetJobRequest* request,
                                              v1::Job* response) {
  return RunUnary(backend_, context, "GetJob", request, response, HandleGetJob);
}

grpc::ServerUnaryReactor* JobsService::ListJobs(grpc::CallbackServerContext* context,
                                                const v1::ListJobsRequest* request,
                                                v1::ListJobsResponse* response) {
  return RunUnary(backend_, context, "ListJobs", request, response, HandleListJobs);
}

grpc::ServerUnaryReactor* JobsService::ListArtifacts(grpc::CallbackServerContext* context,
                                                     const v1::ListArtifactsRequest* request,
                                                     v1::ListArtifactsResponse* response) {
  return RunUnary(backend_, context, "ListArtifacts", request, response, HandleListArtifacts);
}

grpc::ServerWriteReactor<v1::ReadArtifactResponse>* JobsService::ReadArtifact(
    grpc::CallbackServerContext* context, const v1::ReadArtifactRequest* request) {
  return OpenStream(backend_, context, "ReadArtifact", *request, absl::InfiniteDuration(),
                    NewArtifactSource);
}

grpc::ServerUnaryReactor* JobsService::CancelJob(grpc::CallbackServerContext* context,
                                                 const v1::CancelJobRequest* request,
                                                 v1::Job* response) {
  return RunUnary(backend_, context, "CancelJob", request, response, HandleCancelJob);
}

grpc::ServerUnaryReactor* JobsService::PauseJob(grpc::CallbackServerContext* context,
                                                const v1::PauseJobRequest* request,
                                                v1::Job* response) {
  return RunUnary(backend_, context, "PauseJob", request, response, HandlePauseJob);
}

grpc::ServerUnaryReactor* JobsService::ResumeJob(grpc::CallbackServerContext* context,
                                                 const v1::ResumeJobRequest* request,
                                                 v1::Job* response) {
  return RunUnary(backend_, context, "ResumeJob", request, response, HandleResumeJob);
}

grpc::ServerUnaryReactor* JobsService::UpdateJob(grpc::CallbackServerContext* context,
                                                 const v1::UpdateJobRequest* request,
                                                 v1::Job* response) {
  return RunUnary(backend_, context, "UpdateJob", request, response, HandleUpdateJob);
}

grpc::ServerUnaryReactor* JobsService::DeleteJob(grpc::CallbackServerContext* context,
                                                 const v1::DeleteJobRequest* request,
                                                 google::protobuf::Empty* response) {
  return RunUnary(backend_, context, "DeleteJob", request, response, HandleDeleteJob);
}

grpc::ServerWriteReactor<v1::WatchJobResponse>* JobsService::WatchJob(
    grpc::CallbackServerContext* context, const v1::WatchJobRequest* request) {
  return OpenStream(backend_, context, "WatchJob", *request, backend_.options.heartbeat_interval,
                    NewWatchSource);
}

grpc::ServerWriteReactor<v1::ReadMetricsResponse>* JobsService::ReadMetrics(
    grpc::CallbackServerContext* context, const v1::ReadMetricsRequest* request) {
  return OpenStream(backend_, context, "ReadMetrics", *request, absl::InfiniteDuration(),
                    NewMetricsSource);
}

grpc::ServerWriteReactor<v1::ReadLogsResponse>* JobsService::ReadLogs(
    grpc::CallbackServerContext* context, const v1::ReadLogsRequest* request) {
  return OpenStream(backend_, context, "ReadLogs", *request, backend_.options.heartbeat_interval,
                    NewLogSource);
}

grpc::ServerUnaryReactor* NormalizationService::Normalize(grpc::CallbackServerContext* context,
                                                          const v1::NormalizeRequest* request,
                                                          v1::NormalizeResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const absl::StatusOr<Caller> caller = Authorize(backend_, *context, "Normalize");
  if (!caller.ok()) {
    reactor->Finish(ToGrpcStatus(caller.status()));
    return reactor;
  }
  // On the pool, as copying a request of megabytes takes a while.
  const bool accepted = backend_.pool.TryPost([this, context, request, response, reactor] {
    if (context->IsCancelled()) {
      reactor->Finish(grpc::Status::CANCELLED);
      return;
    }
    StartNormalize(backend_, queue_, *request,
                   [response, reactor](absl::StatusOr<v1::NormalizeResponse> result) {
                     if (result.ok()) {
                       *response = *std::move(result);
                     }
                     reactor->Finish(ToGrpcStatus(result.status()));
                   });
  });
  if (!accepted) {
    reactor->Finish(ToGrpcStatus(Overloaded(kOverloadRetry)));
  }
  return reactor;
}

grpc::ServerUnaryReactor* ServerService::GetServerInfo(grpc::CallbackServerContext* context,
                                                       const v1::GetServerInfoRequest* /*request*/,
                                                       v1::ServerInfo* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const absl::StatusOr<Caller> caller = Authorize(backend_, *context, "GetServerInfo");
  if (!caller.ok()) {
    reactor->Finish(ToGrpcStatus(caller.status()));
    return reactor;
  }
  reader_.Read([response, reactor, caller = *caller](v1::ServerInfo info) {
    *response = std::move(info);
    response->mutable_caller()->set_name(caller.name);
    response->mutable_caller()->set_role(caller.role);
    response->mutable_caller()->set_owner(caller.owner);
    reactor->Finish(grpc::Status::OK);
  });
  return reactor;
}

}  // namespace normlab::server
