#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "grpcpp/channel.h"
#include "grpcpp/security/credentials.h"

#include "client/lib/backoff.h"
#include "client/lib/record_decoder.h"

#include "normlab/v1/experiments.grpc.pb.h"
#include "normlab/v1/jobs.grpc.pb.h"
#include "normlab/v1/normalization.grpc.pb.h"

namespace normlab::client {

inline constexpr char kDefaultServer[] = "127.0.0.1:7600";

struct ClientOptions {
  std::string server = kDefaultServer;  // HOST:PORT or another gRPC target, for example unix:PATH
  std::shared_ptr<grpc::ChannelCredentials> credentials;  // null: plaintext
  // Sent with every call; never without TLS to another machine. Empty: none.
  std::string token;
  absl::Duration timeout = absl::Seconds(60);  // of one try of a unary call
  RetryOptions retry;
  // How long a stream that once worked goes on trying to come back: as long as a server may take
  // to be restarted by a person.
  absl::Duration reconnect_for = absl::Minutes(10);
  // A stream on which nothing came for so long is opened anew. The server's heartbeats are closer.
  absl::Duration idle_timeout = absl::Seconds(30);
  // Ends calls and waits under way, with CANCELLED.
  std::stop_token stop;
};

struct CreateJobOptions {
  std::string request_id;  // empty: a random one, so that repeating a lost call is always safe
  bool validate_only = false;
};

// A RecordHandler that also learns about the connection.
class WatchHandler : public RecordHandler {
 public:
  // All records that came together were handed on: the moment to flush.
  virtual absl::Status OnBatchEnd();
  // Sent at the start, and when nothing happened for some seconds.
  virtual absl::Status OnHeartbeat(const normlab::v1::Heartbeat& heartbeat);
  // Called some times a second while nothing comes: the moment to redraw.
  virtual void OnTick();
  // The connection was lost, or an attempt to open it again failed (`attempt` counts from 1 since
  // something last came); the next one follows after `delay`, from the last record on.
  virtual void OnReconnect(const absl::Status& reason, absl::Duration delay, int attempt);
  // Something came again, for the first time since OnReconnect.
  virtual void OnReconnected();
};

// Learns about an experiment that is watched.
class ExperimentHandler {
 public:
  virtual ~ExperimentHandler() = default;
  // Its state, at the start and each time that jobs began or ended, at most once a second. A status
  // that is not OK ends the watch.
  virtual absl::Status OnExperiment(const normlab::v1::Experiment& experiment) = 0;
  // Called some times a second while nothing comes: the moment to redraw.
  virtual void OnTick() {}
  // The connection is lost; `attempt` to get another one begins, from 1.
  virtual void OnReconnect(const absl::Status& /*reason*/, int /*attempt*/) {}
  virtual void OnReconnected() {}
};

// What a server says about itself to the health service.
enum class ServerHealth { kServing, kNotServing, kUnknown };

// A look at a server.
struct ServerProbe {
  normlab::v1::ServerInfo info;
  absl::Time sent;  // of the call that brought `info`, by this machine's clock
  absl::Time received;
  std::string certificate_pem;  // that the server showed; empty without TLS
  ServerHealth health = ServerHealth::kUnknown;
};

struct WatchResult {
  absl::Status status;
  int64_t last_sequence = 0;  // of the last record handed on: watch again after it
  // How the job ended; STATE_UNSPECIFIED when the watch ended before.
  normlab::v1::Job::State state = normlab::v1::Job::STATE_UNSPECIFIED;
};

// The service as functions. Calls that fail with UNAVAILABLE are repeated as RetryOptions says (all
// of them may be: CreateJob carries a request id). Errors carry the server's details (rpc_error.h).
// UNAVAILABLE: no server; DEADLINE_EXCEEDED: it did not answer in time; CANCELLED: stop was
// requested; FAILED_PRECONDITION: a token was to be sent in plaintext to another machine.
//
// `name` is jobs/ID or ID. Calls block. Thread-safe; the object owns its channel.
class Client {
 public:
  explicit Client(ClientOptions options);

  absl::StatusOr<normlab::v1::Job> CreateJob(const normlab::v1::JobSpec& spec,
                                             const CreateJobOptions& options);
  absl::StatusOr<normlab::v1::Job> GetJob(absl::string_view name);
  absl::StatusOr<normlab::v1::ListJobsResponse> ListJobs(
      const normlab::v1::ListJobsRequest& request);
  absl::StatusOr<normlab::v1::Job> CancelJob(absl::string_view name);
  // PAUSED at once when it waits, after a checkpoint when it runs (pause_request_time until then).
  absl::StatusOr<normlab::v1::Job> PauseJob(absl::string_view name);
  absl::StatusOr<normlab::v1::Job> ResumeJob(absl::string_view name);
  // `request.job.name` may be a bare id.
  absl::StatusOr<normlab::v1::Job> UpdateJob(normlab::v1::UpdateJobRequest request);
  // With `force` also a job that waits or runs, after its cancellation. A repeated call after a lost
  // answer finds nothing any more: that is no error here.
  absl::Status DeleteJob(absl::string_view name, bool force, bool allow_missing);
  absl::StatusOr<normlab::v1::ServerInfo> GetServerInfo();
  // GetServerInfo, once, with what a person who looks for trouble wants to know beside it; then asks
  // the health service, where no answer is kUnknown.
  absl::StatusOr<ServerProbe> Probe();
  // Applies a normalizer to tensors of at most 4,194,304 values. DEADLINE_EXCEEDED also when the server
  // itself gave up, with details then.
  absl::StatusOr<normlab::v1::NormalizeResponse> Normalize(
      const normlab::v1::NormalizeRequest& request);

  // Hands every record after `after_sequence` to `handler`, exactly once and in order, until the
  // job is over. A connection that breaks is opened again at the last record, for `reconnect_for`.
  // The result's status: INTERNAL when the server breaks the protocol, OUT_OF_RANGE when there is
  // no such sequence yet, the handler's own, or that of the call.
  WatchResult WatchJob(absl::string_view name, int64_t after_sequence, WatchHandler& handler);

  // Hands stored points to `consume`: a series at a time, or in pieces, each in the order of steps.
  // A break is mended without handing any point on twice. `request.name` may be a bare id.
  absl::Status ReadMetrics(
      normlab::v1::ReadMetricsRequest request,
      const std::function<absl::Status(const normlab::v1::ReadMetricsResponse&)>& consume);

  // Files of a job, oldest first.
  absl::StatusOr<std::vector<normlab::v1::Artifact>> ListArtifacts(absl::string_view job);

  // Hands a file's bytes from `offset` on to `consume`, each once and in order; a break is mended.
  // `expect`: as listed. ABORTED: the file is another one than that by now.
  absl::Status ReadArtifact(const normlab::v1::Artifact& expect,
                            int64_t offset,
                            const std::function<absl::Status(absl::string_view bytes)>& consume);

  // Hands log lines to `consume`, each once and in order; with `follow`, until the job is over.
  absl::Status ReadLogs(
      normlab::v1::ReadLogsRequest request,
      const std::function<absl::Status(const normlab::v1::ReadLogsResponse&)>& consume);

  // Experiments. `name` is experiments/ID or ID; of `experiment`, display_name, labels, base and
  // design are sent. INVALID_ARGUMENT: fields below the experiment (base.model, design.axes[0].field,
  // cells[3].batch_size).
  absl::StatusOr<normlab::v1::Experiment> CreateExperiment(
      const normlab::v1::Experiment& experiment, const CreateJobOptions& options);
  absl::StatusOr<normlab::v1::Experiment> GetExperiment(absl::string_view name);
  absl::StatusOr<normlab::v1::ListExperimentsResponse> ListExperiments(
      const normlab::v1::ListExperimentsRequest& request);
  // Jobs that run end after their current step: watch for that.
  absl::StatusOr<normlab::v1::Experiment> CancelExperiment(absl::string_view name);
  // As DeleteJob, with all its jobs.
  absl::Status DeleteExperiment(absl::string_view name, bool force, bool allow_missing);
  // `request.name` may be a bare id.
  absl::StatusOr<normlab::v1::ExperimentSummary> SummarizeExperiment(
      normlab::v1::SummarizeExperimentRequest request);
  // Follows an experiment until no job waits, runs or is paused, and answers with that state. A
  // connection that breaks is opened again, for `reconnect_for`.
  absl::StatusOr<normlab::v1::Experiment> WatchExperiment(absl::string_view name,
                                                          ExperimentHandler& handler);

  const ClientOptions& options() const { return options_; }

 private:
  // One unary call with its repetitions, the number of which is added to `*repetitions`.
  template <typename Response>
  absl::StatusOr<Response> Call(
      const std::function<grpc::Status(grpc::ClientContext*, Response*)>& method,
      int* repetitions = nullptr);
  // Error texts of the transport made readable.
  absl::Status Explain(const absl::Status& status) const;

  ClientOptions options_;
  absl::Status usable_;  // why no call may be made with these options; constant
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<normlab::v1::Jobs::Stub> jobs_;
  std::unique_ptr<normlab::v1::Experiments::Stub> experiments_;
  std::unique_ptr<normlab::v1::Server::Stub> server_;
  std::unique_ptr<normlab::v1::Normalization::Stub> normalization_;
};

// jobs/ID of ID or jobs/ID. Thread-safe.
std::string JobName(absl::string_view id_or_name);

// experiments/ID of ID or experiments/ID. Thread-safe.
std::string ExperimentName(absl::string_view id_or_name);

// A fresh request id: 128 random bits as a UUID. Thread-safe.
std::string NewRequestId();

}  // namespace normlab::client
