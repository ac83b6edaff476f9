#include "server/api/experiments_service.h"

#include <utility>

#include "server/api/caller.h"
#include "server/api/create_experiment.h"
#include "server/api/experiments.h"
#include "server/api/open_stream.h"
#include "server/api/summarize_experiment.h"
#include "server/api/unary.h"
#include "server/api/watch_experiment.h"

namespace normlab::server {

grpc::ServerUnaryReactor* ExperimentsService::CreateExperiment(
    grpc::CallbackServerContext* context,
    const v1::CreateExperimentRequest* request,
    v1::Experiment* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  absl::StatusOr<Caller> caller = Authorize(backend_, *context, "CreateExperiment");
  if (!caller.ok()) {
    reactor->Finish(ToGrpcStatus(caller.status()));
    return reactor;
  }
  const bool accepted = backend_.pool.TryPost(
      [this, context, request, response, reactor, caller = *std::move(caller)] {
        StartCreateExperiment(
            backend_, caller, *request,
            [this, caller, context, response, reactor](absl::StatusOr<v1::Experiment> experiment) {
              Audit(backend_, caller, "CreateExperiment", experiment.ok() ? experiment->name() : "",
                    *context, experiment.status());
              if (experiment.ok()) {
                *response = *std::move(experiment);
              }
              reactor->Finish(ToGrpcStatus(experiment.status()));
            });
      });
  if (!accepted) {
    reactor->Finish(ToGrpcStatus(Overloaded(kOverloadRetry)));
  }
  return reactor;
}

grpc::ServerUnaryReactor* ExperimentsService::GetExperiment(grpc::CallbackServerContext* context,
                                                            const v1::GetExperimentRequest* request,
                                                            v1::Experiment* response) {
  return RunUnary(backend_, context, "GetExperiment", request, response, HandleGetExperiment);
}

grpc::ServerUnaryReactor* ExperimentsService::ListExperiments(
    grpc::CallbackServerContext* context,
    const v1::ListExperimentsRequest* request,
    v1::ListExperimentsResponse* response) {
  return RunUnary(backend_, context, "ListExperiments", request, response, HandleListExperiments);
}

grpc::ServerUnaryReactor* ExperimentsService::CancelExperiment(
    grpc::CallbackServerContext* context,
    const v1::CancelExperimentRequest* request,
    v1::Experiment* response) {
  return RunUnary(backend_, context, "CancelExperiment", request, response, HandleCancelExperiment);
}

grpc::ServerUnaryReactor* ExperimentsService::DeleteExperiment(
    grpc::CallbackServerContext* context,
    const v1::DeleteExperimentRequest* request,
    google::protobuf::Empty* response) {
  return RunUnary(backend_, context, "DeleteExperiment", request, response, HandleDeleteExperiment);
}

grpc::ServerWriteReactor<v1::Experiment>* ExperimentsService::WatchExperiment(
    grpc::CallbackServerContext* context, const v1::WatchExperimentRequest* request) {
  return OpenStream(backend_, context, "WatchExperiment", *request,
                    WatchedExperimentTick(backend_.options), NewExperimentSource);
}

grpc::ServerUnaryReactor* ExperimentsService::SummarizeExperiment(
    grpc::CallbackServerContext* context,
    const v1::SummarizeExperimentRequest* request,
    v1::ExperimentSummary* response) {
  return RunUnary(backend_, context, "SummarizeExperiment", request, response,
                  HandleSummarizeExperiment);
}

}  // namespace normlab::server
