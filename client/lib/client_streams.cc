// The streaming calls of Client: each goes on by itself after its connection broke.
#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "client/lib/client.h"
#include "client/lib/connection.h"
#include "client/lib/rpc_error.h"
#include "client/lib/server_stream.h"
#include "common/status_macros.h"

namespace normlab::client {
namespace {

using normlab::v1::Job;
using normlab::v1::ReadArtifactResponse;
using normlab::v1::ReadLogsRequest;
using normlab::v1::ReadLogsResponse;
using normlab::v1::ReadMetricsRequest;
using normlab::v1::ReadMetricsResponse;
using normlab::v1::WatchJobRequest;
using normlab::v1::WatchJobResponse;

// Ends after which a stream is worth opening again: a lost or drained server, or a reader that was
// cut off because it was slow (with a delay given).
bool IsResumable(const absl::Status& status) {
  return IsTransient(status) || absl::IsAborted(status) ||
         (absl::IsResourceExhausted(status) && RetryDelay(status).has_value());
}

// The points of `response` whose step is above `last_step`.
ReadMetricsResponse After(const ReadMetricsResponse& response, int64_t last_step) {
  ReadMetricsResponse result;
  result.set_series(response.series());
  result.set_position(response.position());
  for (int i = 0; i < response.steps_size(); ++i) {
    if (response.steps(i) > last_step) {
      result.add_steps(response.steps(i));
      result.add_values(response.values(i));
    }
  }
  return result;
}

absl::Status CheckShape(const ReadMetricsResponse& response) {
  if (response.steps_size() != response.values_size()) {
    return absl::InternalError(absl::StrCat(
        "series ", response.series(), " came with ", response.steps_size(), " steps and ",
        response.values_size(), " values; this is a bug of the server, please report it"));
  }
  return absl::OkStatus();
}

}  // namespace

WatchResult Client::WatchJob(absl::string_view name,
                             int64_t after_sequence,
                             WatchHandler& handler) {
  if (!usable_.ok()) {
    return {.status = usable_, .last_sequence = after_sequence};
  }
  RecordDecoder decoder(after_sequence);
  Backoff backoff(options_.retry);
  const auto result = [&](absl::Status status) {
    return WatchResult{.status = std::move(status),
                       .last_sequence = decoder.last_sequence(),
                       .state = decoder.terminal_state()};
  };
  WatchJobRequest request;
  request.set_name(JobName(name));
  while (true) {
    request.set_after_sequence(decoder.last_sequence());
    ServerStream<WatchJobResponse> stream(
        [&](grpc::ClientContext* context, grpc::CompletionQueue* queue) {
          AddToken(options_.token, *context);
          return jobs_->PrepareAsyncWatchJob(context, request, queue);
        },
        options_.stop);
    WatchJobResponse response;
    while (stream.Read(&response, options_.idle_timeout, [&handler] { handler.OnTick(); })) {
      if (backoff.failures() > 0) {
        handler.OnReconnected();
      }
      backoff.Reset(options_.reconnect_for);
      absl::Status status;
      if (response.has_records()) {
        status = decoder.Decode(response.records(), handler);
        if (const absl::Status flushed = handler.OnBatchEnd(); status.ok()) {
          status = flushed;
        }
      } else if (response.has_heartbeat()) {
        status = decoder.Check(response.heartbeat());
        if (status.ok()) {
          status = handler.OnHeartbeat(response.heartbeat());
        }
      }
      if (!status.ok() || decoder.terminal_state() != Job::STATE_UNSPECIFIED) {
        return result(status);
      }
      if (options_.stop.stop_requested()) {
        return result(absl::CancelledError("stopped"));
      }
    }
    absl::Status end = stream.Finish();
    if (options_.stop.stop_requested()) {
      return result(absl::CancelledError("stopped"));
    }
    if (end.ok()) {
      // A watch from the terminal record on has nothing to show, so ask how the job ended.
      absl::StatusOr<Job> job = GetJob(name);
      if (job.ok() && IsTerminal(job->state()) && job->last_sequence() <= decoder.last_sequence()) {
        WatchResult ended = result(absl::OkStatus());
        ended.state = job->state();
        return ended;
      }
      end = job.ok() ? absl::UnavailableError("the server ended the stream before the job")
                     : job.status();
    }
    if (!IsResumable(end)) {
      return result(Explain(end));
    }
    handler.OnReconnect(end, backoff.NextDelay(end), backoff.failures() + 1);
    if (!backoff.Wait(end, options_.stop)) {
      return result(Explain(end));
    }
  }
}

absl::Status Client::ReadMetrics(
    ReadMetricsRequest request,
    const std::function<absl::Status(const ReadMetricsResponse&)>& consume) {
  NORMLAB_RETURN_IF_ERROR(usable_);
  request.set_name(JobName(request.name()));
  Backoff backoff(options_.retry);
  std::map<std::string, int64_t> last_steps;  // of points handed on
  while (true) {
    // A thinned-out curve of a job that runs on may be another one the next time: it is handed on
    // whole.
    std::vector<ReadMetricsResponse> held;
    ServerStream<ReadMetricsResponse> stream(
        [&](grpc::ClientContext* context, grpc::CompletionQueue* queue) {
          AddToken(options_.token, *context);
          return jobs_->PrepareAsyncReadMetrics(context, request, queue);
        },
        options_.stop);
    ReadMetricsResponse response;
    while (stream.Read(&response, options_.idle_timeout)) {
      NORMLAB_RETURN_IF_ERROR(CheckShape(response));
      backoff.Reset(options_.reconnect_for);
      if (request.max_points() > 0) {
        held.push_back(response);
        continue;
      }
      // An older server gives none; what comes again is then left out here.
      const std::string position = response.position();
      const auto known = last_steps.find(response.series());
      if (known != last_steps.end()) {
        response = After(response, known->second);
      }
      if (response.steps().empty() && known != last_steps.end()) {
        continue;
      }
      NORMLAB_RETURN_IF_ERROR(consume(response));
      if (!response.steps().empty()) {
        last_steps[response.series()] = response.steps(response.steps_size() - 1);
      }
      request.set_position(position);
    }
    const absl::Status end = stream.Finish();
    if (end.ok()) {
      for (const ReadMetricsResponse& part : held) {
        NORMLAB_RETURN_IF_ERROR(consume(part));
      }
      return absl::OkStatus();
    }
    if (!IsResumable(end) || !backoff.Wait(end, options_.stop)) {
      return Explain(end);
    }
  }
}

absl::Status Client::ReadArtifact(
    const normlab::v1::Artifact& expect,
    int64_t offset,
    const std::function<absl::Status(absl::string_view bytes)>& consume) {
  NORMLAB_RETURN_IF_ERROR(usable_);
  normlab::v1::ReadArtifactRequest request;
  request.set_name(expect.name());
  request.set_offset(offset);
  Backoff backoff(options_.retry);
  while (true) {
    ServerStream<ReadArtifactResponse> stream(
        [&](grpc::ClientContext* context, grpc::CompletionQueue* queue) {
          AddToken(options_.token, *context);
          return jobs_->PrepareAsyncReadArtifact(context, request, queue);
        },
        options_.stop);
    ReadArtifactResponse response;
    while (stream.Read(&response, options_.idle_timeout)) {
      if (response.has_artifact() && response.artifact().sha256() != expect.sha256()) {
        return absl::AbortedError(
            absl::StrCat(expect.name(),
                         " is another file than when it was listed; list it again and start anew"));
      }
      if (response.offset() != request.offset()) {
        return absl::InternalError(absl::StrCat("bytes from ", response.offset(), " on came after ",
                                                request.offset(),
                                                "; this is a bug of the server, please report it"));
      }
      NORMLAB_RETURN_IF_ERROR(consume(response.data()));
      request.set_offset(request.offset() + static_cast<int64_t>(response.data().size()));
      backoff.Reset(options_.reconnect_for);
    }
    const absl::Status end = stream.Finish();
    if (end.ok()) {
      return request.offset() == expect.bytes()
                 ? absl::OkStatus()
                 : absl::DataLossError(absl::StrCat(
                       expect.name(), " ended after ", request.offset(), " of ", expect.bytes(),
                       " bytes; try again, and if it happens again look at the server's log"));
    }
    if (!IsResumable(end) || !backoff.Wait(end, options_.stop)) {
      return Explain(end);
    }
  }
}

absl::Status Client::ReadLogs(ReadLogsRequest request,
                              const std::function<absl::Status(const ReadLogsResponse&)>& consume) {
  NORMLAB_RETURN_IF_ERROR(usable_);
  request.set_name(JobName(request.name()));
  Backoff backoff(options_.retry);
  while (true) {
    bool was_open = false;
    ServerStream<ReadLogsResponse> stream(
        [&](grpc::ClientContext* context, grpc::CompletionQueue* queue) {
          AddToken(options_.token, *context);
          return jobs_->PrepareAsyncReadLogs(context, request, queue);
        },
        options_.stop);
    const absl::Time opened = absl::Now();
    ReadLogsResponse response;
    while (stream.Read(&response, options_.idle_timeout)) {
      was_open = true;
      if (response.has_heartbeat()) {
        // Nothing up to there has to be looked through again.
        request.set_after_sequence(
            std::max(request.after_sequence(), response.heartbeat().sequence()));
        continue;
      }
      if (response.sequence() <= request.after_sequence()) {
        return absl::InternalError(absl::StrCat("log record ", response.sequence(),
                                                " came after record ", request.after_sequence(),
                                                "; this is a bug of the server, please report it"));
      }
      NORMLAB_RETURN_IF_ERROR(consume(response));
      request.set_after_sequence(response.sequence());
    }
    const absl::Status end = stream.Finish();
    if (end.ok()) {
      return absl::OkStatus();
    }
    // Log lines may be hours apart, and an older server sends no heartbeats in between: a quiet
    // stream is asked anew, no failure.
    const bool was_quiet =
        absl::IsUnavailable(end) && absl::Now() - opened >= options_.idle_timeout;
    if (was_open || was_quiet) {
      backoff.Reset(options_.reconnect_for);
    }
    if (!IsResumable(end) || !backoff.Wait(end, options_.stop)) {
      return Explain(end);
    }
  }
}

}  // namespace normlab::client
