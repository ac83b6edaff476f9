// The calls of Client that are about experiments.
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "google/protobuf/util/message_differencer.h"

#include "client/lib/client.h"
#include "client/lib/client_call.h"
#include "client/lib/server_stream.h"

namespace normlab::client {
namespace {

using normlab::v1::Experiment;

}  // namespace

std::string ExperimentName(absl::string_view id_or_name) {
  return absl::StartsWith(id_or_name, "experiments/") ? std::string(id_or_name)
                                                      : absl::StrCat("experiments/", id_or_name);
}

absl::StatusOr<Experiment> Client::CreateExperiment(const Experiment& experiment,
                                                    const CreateJobOptions& options) {
  normlab::v1::CreateExperimentRequest request;
  *request.mutable_experiment() = experiment;
  request.set_request_id(options.request_id.empty() ? NewRequestId() : options.request_id);
  request.set_validate_only(options.validate_only);
  return Call<Experiment>([&](grpc::ClientContext* context, Experiment* created) {
    return experiments_->CreateExperiment(context, request, created);
  });
}

absl::StatusOr<Experiment> Client::GetExperiment(absl::string_view name) {
  normlab::v1::GetExperimentRequest request;
  request.set_name(ExperimentName(name));
  return Call<Experiment>([&](grpc::ClientContext* context, Experiment* experiment) {
    return experiments_->GetExperiment(context, request, experiment);
  });
}

absl::StatusOr<normlab::v1::ListExperimentsResponse> Client::ListExperiments(
    const normlab::v1::ListExperimentsRequest& request) {
  return Call<normlab::v1::ListExperimentsResponse>(
      [&](grpc::ClientContext* context, normlab::v1::ListExperimentsResponse* response) {
        return experiments_->ListExperiments(context, request, response);
      });
}

absl::StatusOr<Experiment> Client::CancelExperiment(absl::string_view name) {
  normlab::v1::CancelExperimentRequest request;
  request.set_name(ExperimentName(name));
  return Call<Experiment>([&](grpc::ClientContext* context, Experiment* experiment) {
    return experiments_->CancelExperiment(context, request, experiment);
  });
}

absl::Status Client::DeleteExperiment(absl::string_view name, bool force, bool allow_missing) {
  normlab::v1::DeleteExperimentRequest request;
  request.set_name(ExperimentName(name));
  request.set_force(force);
  request.set_allow_missing(allow_missing);
  int repetitions = 0;
  const absl::Status deleted =
      Call<google::protobuf::Empty>(
          [&](grpc::ClientContext* context, google::protobuf::Empty* nothing) {
            return experiments_->DeleteExperiment(context, request, nothing);
          },
          &repetitions)
          .status();
  return repetitions > 0 && absl::IsNotFound(deleted) ? absl::OkStatus() : deleted;
}

absl::StatusOr<normlab::v1::ExperimentSummary> Client::SummarizeExperiment(
    normlab::v1::SummarizeExperimentRequest request) {
  request.set_name(ExperimentName(request.name()));
  return Call<normlab::v1::ExperimentSummary>(
      [&](grpc::ClientContext* context, normlab::v1::ExperimentSummary* summary) {
        return experiments_->SummarizeExperiment(context, request, summary);
      });
}

absl::StatusOr<Experiment> Client::WatchExperiment(absl::string_view name,
                                                   ExperimentHandler& handler) {
  NORMLAB_RETURN_IF_ERROR(usable_);
  Backoff backoff(options_.retry);
  normlab::v1::WatchExperimentRequest request;
  request.set_name(ExperimentName(name));
  request.set_heartbeats(true);
  Experiment last;
  bool has_heartbeats = false;  // servers of older versions send none
  bool is_lost = false;         // as far as the handler knows
  while (true) {
    bool was_open = false;
    const absl::Time opened = absl::Now();
    ServerStream<Experiment> stream(
        [&](grpc::ClientContext* context, grpc::CompletionQueue* queue) {
          AddToken(options_.token, *context);
          return experiments_->PrepareAsyncWatchExperiment(context, request, queue);
        },
        options_.stop);
    Experiment next;
    while (stream.Read(&next, options_.idle_timeout, [&handler] { handler.OnTick(); })) {
      was_open = true;
      if (backoff.failures() > 0) {
        backoff.Reset(options_.reconnect_for);
      }
      if (std::exchange(is_lost, false)) {
        handler.OnReconnected();
      }
      if (!next.has_create_time() && !next.has_counts() && next.cells().empty()) {
        has_heartbeats = true;
        continue;
      }
      // A stream that was opened anew begins with what may be known already.
      const bool is_news = !google::protobuf::util::MessageDifferencer::Equals(next, last);
      last = std::move(next);
      next = Experiment();
      if (is_news) {
        NORMLAB_RETURN_IF_ERROR(handler.OnExperiment(last));
      }
      if (options_.stop.stop_requested()) {
        return absl::CancelledError("stopped");
      }
    }
    const absl::Status end = stream.Finish();
    if (options_.stop.stop_requested()) {
      return absl::CancelledError("stopped");
    }
    if (end.ok() && last.has_end_time()) {
      return last;
    }
    // Between two changes there may be hours. Without heartbeats a quiet stream is asked anew, no
    // failure; with them its silence says that the server is gone.
    const bool was_quiet = !has_heartbeats && absl::IsUnavailable(end) &&
                           absl::Now() - opened >= options_.idle_timeout;
    if (was_open || was_quiet) {
      backoff.Reset(options_.reconnect_for);
    }
    const absl::Status reason =
        end.ok() ? absl::UnavailableError("the server ended the stream before the experiment")
                 : end;
    const bool resumable = IsTransient(reason) ||
                           (absl::IsResourceExhausted(reason) && RetryDelay(reason).has_value());
    if (resumable && !was_quiet) {
      is_lost = true;
      handler.OnReconnect(reason, backoff.failures() + 1);
    }
    if (!resumable || !backoff.Wait(reason, options_.stop)) {
      return Explain(reason);
    }
  }
}

}  // namespace normlab::client
