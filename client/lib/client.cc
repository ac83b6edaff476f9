#include "client/lib/client.h"

#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/support/channel_arguments.h"

#include "client/lib/client_call.h"
#include "client/lib/connection.h"
#include "client/lib/rpc_error.h"
#include "common/ids.h"

namespace normlab::client {
namespace {

using normlab::v1::Job;

constexpr int kMaxSentBytes = 64 << 20;  // what the server takes
// A normalized tensor with its gradients and statistics; everything else is far smaller.
constexpr int kMaxReceivedBytes = 160 << 20;
// Error details travel in trailers, for which gRPC allows 8 KiB by default: too few for a long list
// of violations.
constexpr int kMaxMetadataBytes = 64 << 10;
constexpr int kFirstReconnectMs = 100;
constexpr int kMaxReconnectMs = 1000;
// How long one attempt to connect may take. gRPC names it MIN_RECONNECT_BACKOFF, but it delays
// nothing after an attempt that was refused.
constexpr int kConnectTimeoutMs = 5000;

std::shared_ptr<grpc::Channel> MakeChannel(const ClientOptions& options) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxReceivedBytes);
  arguments.SetMaxSendMessageSize(kMaxSentBytes);
  arguments.SetInt(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
  // gRPC's own waits between connection attempts grow to two minutes.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kFirstReconnectMs);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kConnectTimeoutMs);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kMaxReconnectMs);
  // Repeating is ours: it honours RetryInfo and tells the user.
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  if (IsLocalServer(options.server)) {
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);  // no proxy reaches our loopback
  }
  return grpc::CreateCustomChannel(
      options.server,
      options.credentials != nullptr ? options.credentials : grpc::InsecureChannelCredentials(),
      arguments);
}

}  // namespace

std::string JobName(absl::string_view id_or_name) {
  return absl::StartsWith(id_or_name, "jobs/") ? std::string(id_or_name)
                                               : absl::StrCat("jobs/", id_or_name);
}

std::string NewRequestId() {
  std::string bytes = common::RandomBytes(16);
  bytes[6] =
      static_cast<char>((static_cast<unsigned char>(bytes[6]) & 0x0FU) | 0x40U);  // version 4
  bytes[8] = static_cast<char>((static_cast<unsigned char>(bytes[8]) & 0x3FU) | 0x80U);  // RFC 4122
  const std::string hex = absl::BytesToHexString(bytes);
  return absl::StrCat(hex.substr(0, 8), "-", hex.substr(8, 4), "-", hex.substr(12, 4), "-",
                      hex.substr(16, 4), "-", hex.substr(20));
}

absl::Status WatchHandler::OnBatchEnd() {
  return absl::OkStatus();
}

absl::Status WatchHandler::OnHeartbeat(const normlab::v1::Heartbeat& /*heartbeat*/) {
  return absl::OkStatus();
}

void WatchHandler::OnTick() {}

void WatchHandler::OnReconnect(const absl::Status& /*reason*/,
                               absl::Duration /*delay*/,
                               int /*attempt*/) {}

void WatchHandler::OnReconnected() {}

Client::Client(ClientOptions options)
    : options_(std::move(options)),
      usable_(CheckToken(options_.token, options_.server, options_.credentials != nullptr)),
      channel_(MakeChannel(options_)) {
  jobs_ = normlab::v1::Jobs::NewStub(channel_);
  experiments_ = normlab::v1::Experiments::NewStub(channel_);
  server_ = normlab::v1::Server::NewStub(channel_);
  normalization_ = normlab::v1::Normalization::NewStub(channel_);
}

absl::Status Client::Explain(const absl::Status& status) const {
  google::rpc::Status explained = ToRpcStatus(status);
  if (options_.stop.stop_requested()) {
    return absl::CancelledError("stopped");
  }
  if (absl::IsUnavailable(status) && explained.details().empty() &&
      absl::StrContains(status.message(), "http1.x server")) {
    explained.set_message(absl::StrCat(
        "what listens at ", options_.server,
        " speaks HTTP, not gRPC; give the server's gRPC port (7600 unless it was told otherwise), "
        "not the port of its metrics"));
  } else if (absl::IsUnavailable(status) && explained.details().empty() &&
             options_.credentials != nullptr) {
    explained.set_message(absl::StrCat(
        "no TLS connection to a server at ", options_.server, " (", std::string(status.message()),
        "); check that it listens there with TLS, that its certificate is of this name and of the "
        "authority of --tls-ca, and whether it wants a certificate of yours (--tls-cert)"));
  } else if (absl::IsUnavailable(status) && explained.details().empty()) {
    explained.set_message(absl::StrCat(
        "no answer from a server at ", options_.server, " (", std::string(status.message()),
        "); start normlabd, or give its address with --server HOST:PORT or NORMLAB_SERVER",
        absl::StrContains(status.message(), "Socket closed")
            ? ". Something listens there and hung up: a server with TLS wants --tls-ca FILE"
            : ""));
  } else if (absl::IsDeadlineExceeded(status) && explained.details().empty()) {
    explained.set_message(absl::StrCat("the server at ", options_.server, " did not answer within ",
                                       absl::FormatDuration(options_.timeout),
                                       "; it may be busy, so try again or raise --timeout"));
  } else if (absl::IsUnimplemented(status) && explained.details().empty()) {
    explained.set_message(absl::StrCat(
        "what answers at ", options_.server, " is no Normlab server of this version (",
        std::string(status.message()), "); check --server and compare with normlab version"));
  }
  return FromRpcStatus(explained);
}

absl::StatusOr<Job> Client::CreateJob(const normlab::v1::JobSpec& spec,
                                      const CreateJobOptions& options) {
  normlab::v1::CreateJobRequest request;
  *request.mutable_job()->mutable_spec() = spec;
  request.set_request_id(options.request_id.empty() ? NewRequestId() : options.request_id);
  request.set_validate_only(options.validate_only);
  return Call<Job>([&](grpc::ClientContext* context, Job* job) {
    return jobs_->CreateJob(context, request, job);
  });
}

absl::StatusOr<Job> Client::GetJob(absl::string_view name) {
  normlab::v1::GetJobRequest request;
  request.set_name(JobName(name));
  return Call<Job>(
      [&](grpc::ClientContext* context, Job* job) { return jobs_->GetJob(context, request, job); });
}

absl::StatusOr<normlab::v1::ListJobsResponse> Client::ListJobs(
    const normlab::v1::ListJobsRequest& request) {
  return Call<normlab::v1::ListJobsResponse>(
      [&](grpc::ClientContext* context, normlab::v1::ListJobsResponse* response) {
        return jobs_->ListJobs(context, request, response);
      });
}

absl::StatusOr<Job> Client::CancelJob(absl::string_view name) {
  normlab::v1::CancelJobRequest request;
  request.set_name(JobName(name));
  return Call<Job>([&](grpc::ClientContext* context, Job* job) {
    return jobs_->CancelJob(context, request, job);
  });
}

absl::StatusOr<std::vector<normlab::v1::Artifact>> Client::ListArtifacts(absl::string_view job) {
  normlab::v1::ListArtifactsRequest request;
  request.set_parent(JobName(job));
  absl::StatusOr<normlab::v1::ListArtifactsResponse> listed =
      Call<normlab::v1::ListArtifactsResponse>(
          [&](grpc::ClientContext* context, normlab::v1::ListArtifactsResponse* response) {
            return jobs_->ListArtifacts(context, request, response);
          });
  if (!listed.ok()) {
    return listed.status();
  }
  return std::vector<normlab::v1::Artifact>(listed->artifacts().begin(), listed->artifacts().end());
}

absl::StatusOr<Job> Client::PauseJob(absl::string_view name) {
  normlab::v1::PauseJobRequest request;
  request.set_name(JobName(name));
  return Call<Job>([&](grpc::ClientContext* context, Job* job) {
    return jobs_->PauseJob(context, request, job);
  });
}

absl::StatusOr<Job> Client::ResumeJob(absl::string_view name) {
  normlab::v1::ResumeJobRequest request;
  request.set_name(JobName(name));
  int repetitions = 0;
  absl::StatusOr<Job> resumed =
      Call<Job>([&](grpc::ClientContext* context,
                    Job* job) { return jobs_->ResumeJob(context, request, job); },
                &repetitions);
  if (repetitions > 0 && absl::IsFailedPrecondition(resumed.status())) {
    // The answer to a call that worked was lost: then the job waits or runs again, or is over.
    absl::StatusOr<Job> job = GetJob(name);
    if (job.ok() && job->state() != Job::PAUSED) {
      return job;
    }
  }
  return resumed;
}

absl::StatusOr<Job> Client::UpdateJob(normlab::v1::UpdateJobRequest request) {
  request.mutable_job()->set_name(JobName(request.job().name()));
  return Call<Job>([&](grpc::ClientContext* context, Job* job) {
    return jobs_->UpdateJob(context, request, job);
  });
}

absl::Status Client::DeleteJob(absl::string_view name, bool force, bool allow_missing) {
  normlab::v1::DeleteJobRequest request;
  request.set_name(JobName(name));
  request.set_force(force);
  request.set_allow_missing(allow_missing);
  int repetitions = 0;
  const absl::Status deleted =
      Call<google::protobuf::Empty>(
          [&](grpc::ClientContext* context, google::protobuf::Empty* nothing) {
            return jobs_->DeleteJob(context, request, nothing);
          },
          &repetitions)
          .status();
  return repetitions > 0 && absl::IsNotFound(deleted) ? absl::OkStatus() : deleted;
}

absl::StatusOr<normlab::v1::ServerInfo> Client::GetServerInfo() {
  const normlab::v1::GetServerInfoRequest request;
  return Call<normlab::v1::ServerInfo>(
      [&](grpc::ClientContext* context, normlab::v1::ServerInfo* info) {
        return server_->GetServerInfo(context, request, info);
      });
}

absl::StatusOr<normlab::v1::NormalizeResponse> Client::Normalize(
    const normlab::v1::NormalizeRequest& request) {
  return Call<normlab::v1::NormalizeResponse>(
      [&](grpc::ClientContext* context, normlab::v1::NormalizeResponse* response) {
        return normalization_->Normalize(context, request, response);
      });
}

}  // namespace normlab::client
