#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include <grpcpp/client_context.h>

#include "common/worker_hello.h"
#include "server/store/store.h"

#include "normlab/v1/worker.grpc.pb.h"

namespace normlab::server {

// A store whose reports can be held back, or refused, before they get to the real one.
class GatedStore final : public Store {
 public:
  explicit GatedStore(Store& real) : real_(real) {}

  void Hold() {
    absl::MutexLock lock(&mu_);
    hold_ = true;
  }
  void Release() {
    std::vector<std::function<void()>> held;
    {
      absl::MutexLock lock(&mu_);
      hold_ = false;
      held.swap(held_);
    }
    for (const auto& append : held) {
      append();
    }
  }
  // Of the reports to come, those with this number are refused, until it is set to 0.
  void Refuse(int64_t number, absl::Status status) {
    absl::MutexLock lock(&mu_);
    refused_number_ = number;
    refusal_ = std::move(status);
  }
  size_t held() const {
    absl::MutexLock lock(&mu_);
    return held_.size();
  }
  std::vector<int64_t> numbers() const {
    absl::MutexLock lock(&mu_);
    return numbers_;
  }

  void AppendReport(AttemptKey attempt,
                    v1::WorkerReport report,
                    absl::AnyInvocable<void(absl::StatusOr<AppendResult>) &&> done) override {
    absl::Status refusal;
    {
      absl::MutexLock lock(&mu_);
      numbers_.push_back(report.number());
      if (hold_) {
        auto shared = std::make_shared<decltype(done)>(std::move(done));
        held_.push_back([this, attempt, report, shared] {
          real_.AppendReport(attempt, report, std::move(*shared));
        });
        return;
      }
      if (report.number() == refused_number_) {
        refusal = refusal_;
      }
    }
    if (!refusal.ok()) {
      std::move(done)(refusal);
      return;
    }
    real_.AppendReport(std::move(attempt), std::move(report), std::move(done));
  }

  void CreateJob(v1::Job job,
                 std::string request_id,
                 std::string request_sha256,
                 absl::AnyInvocable<void(absl::StatusOr<CreateResult>) &&> done) override {
    real_.CreateJob(std::move(job), std::move(request_id), std::move(request_sha256),
                    std::move(done));
  }
  void UpdateJob(std::string job_id,
                 Mutator mutate,
                 std::optional<AttemptSecrets> secrets,
                 JobCallback done) override {
    real_.UpdateJob(std::move(job_id), std::move(mutate), std::move(secrets), std::move(done));
  }
  void FailDamaged(std::string job_id, v1::Failure failure, JobCallback done) override {
    real_.FailDamaged(std::move(job_id), std::move(failure), std::move(done));
  }
  void SetCommitListener(CommitListener listener) override {
    real_.SetCommitListener(std::move(listener));
  }
  void SetCommitObserver(CommitObserver observer) override {
    real_.SetCommitObserver(std::move(observer));
  }
  void DeleteJob(std::string job_id, absl::AnyInvocable<void(absl::Status) &&> done) override {
    real_.DeleteJob(std::move(job_id), std::move(done));
  }
  void SaveUsage(std::vector<OwnerUsage> usage,
                 absl::AnyInvocable<void(absl::Status) &&> done) override {
    real_.SaveUsage(std::move(usage), std::move(done));
  }
  absl::StatusOr<PointSlice> ReadPoints(const std::string& job_id,
                                        int64_t after,
                                        int64_t until,
                                        const std::vector<uint32_t>& series,
                                        int64_t from_step,
                                        int64_t to_step,
                                        int64_t max_bytes) override {
    return real_.ReadPoints(job_id, after, until, series, from_step, to_step, max_bytes);
  }
  absl::StatusOr<LogPage> ReadLogs(const std::string& job_id,
                                   int64_t after,
                                   int64_t max_bytes) override {
    return real_.ReadLogs(job_id, after, max_bytes);
  }
  absl::StatusOr<std::vector<StoredArtifact>> ListArtifacts(const std::string& job_id) override {
    return real_.ListArtifacts(job_id);
  }
  ExperimentStore& experiments() override { return real_.experiments(); }
  absl::StatusOr<std::vector<OwnerUsage>> LoadUsage() override { return real_.LoadUsage(); }
  int64_t CountJobs(const std::string& owner, v1::Job::State state) override {
    return real_.CountJobs(owner, state);
  }
  absl::Status Maintain() override { return real_.Maintain(); }
  absl::StatusOr<std::optional<v1::Job>> FindRequest(const std::string& owner,
                                                     const std::string& request_id,
                                                     const std::string& request_sha256) override {
    return real_.FindRequest(owner, request_id, request_sha256);
  }
  absl::StatusOr<v1::Job> GetJob(const std::string& job_id) override {
    return real_.GetJob(job_id);
  }
  absl::StatusOr<JobPage> ListJobs(const JobFilter& filter,
                                   int page_size,
                                   const std::string& page_token) override {
    return real_.ListJobs(filter, page_size, page_token);
  }
  absl::StatusOr<std::vector<v1::Job>> ActiveJobs(std::vector<std::string>* damaged) override {
    return real_.ActiveJobs(damaged);
  }
  absl::StatusOr<std::vector<QueueEntry>> QueuedJobs() override { return real_.QueuedJobs(); }
  absl::StatusOr<int64_t> QueuedBytes(const std::string& owner) override {
    return real_.QueuedBytes(owner);
  }
  absl::StatusOr<AttemptSecrets> GetAttemptSecrets(const AttemptKey& attempt) override {
    return real_.GetAttemptSecrets(attempt);
  }
  absl::StatusOr<RecordPage> ReadRecords(const std::string& job_id,
                                         int64_t after,
                                         int64_t max_bytes) override {
    return real_.ReadRecords(job_id, after, max_bytes);
  }
  absl::StatusOr<std::vector<v1::Series>> ReadSeries(const std::string& job_id) override {
    return real_.ReadSeries(job_id);
  }
  absl::Status ReadMetrics(const MetricQuery& query,
                           const std::function<bool(const std::string&,
                                                    absl::Span<const int64_t>,
                                                    absl::Span<const double>)>& sink) override {
    return real_.ReadMetrics(query, sink);
  }
  std::vector<std::pair<v1::Job::State, int64_t>> CountByState() override {
    return real_.CountByState();
  }
  absl::Status Health() override { return real_.Health(); }
  void Close() override { real_.Close(); }

 private:
  Store& real_;
  mutable absl::Mutex mu_;
  bool hold_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::function<void()>> held_ ABSL_GUARDED_BY(mu_);
  int64_t refused_number_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Status refusal_ ABSL_GUARDED_BY(mu_);
  std::vector<int64_t> numbers_ ABSL_GUARDED_BY(mu_);
};

// A worker's end of one connection.
class Connection {
 public:
  explicit Connection(v1::Worker::Stub& stub) : stream_(stub.Report(&context_)) {}
  // With the hello in its headers, as over a network.
  Connection(v1::Worker::Stub& stub, const v1::Hello& header) {
    context_.AddMetadata(common::kHelloHeader, header.SerializeAsString());
    stream_ = stub.Report(&context_);
  }
  ~Connection() {
    if (stream_ != nullptr) {
      Break();
    }
  }

  bool Send(const v1::Hello& hello) {
    v1::WorkerMessage message;
    *message.mutable_hello() = hello;
    return stream_->Write(message);
  }
  bool Send(const v1::WorkerReport& report) {
    v1::WorkerMessage message;
    *message.mutable_report() = report;
    return stream_->Write(message);
  }
  // The next message; nothing when the stream is over.
  std::optional<v1::ServerMessage> Read() {
    v1::ServerMessage message;
    return stream_->Read(&message) ? std::optional(message) : std::nullopt;
  }
  // Says hello and returns the welcome.
  std::optional<v1::Welcome> Greet(const v1::Hello& hello) {
    Send(hello);
    const auto message = Read();
    return message.has_value() && message->has_welcome() ? std::optional(message->welcome())
                                                         : std::nullopt;
  }
  // Reads acknowledgements up to that of report `number`; false when something else comes, or they
  // go back.
  bool ReadAcksUpTo(int64_t number) {
    while (last_ack_ < number) {
      const auto message = Read();
      if (!message.has_value() || !message->has_ack() || message->ack().report() <= last_ack_) {
        return false;
      }
      last_ack_ = message->ack().report();
    }
    return last_ack_ == number;
  }
  // Reads to the end and returns the stream's status.
  grpc::Status Finish() {
    stream_->WritesDone();
    return Ended();
  }
  // The same, where the server ends it.
  grpc::Status Ended() {
    while (Read().has_value()) {
    }
    const grpc::Status status = stream_->Finish();
    stream_.reset();
    return status;
  }
  // As if the process had died.
  void Break() {
    context_.TryCancel();
    Ended();
  }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::WorkerMessage, v1::ServerMessage>> stream_;
  int64_t last_ack_ = 0;
};

}  // namespace normlab::server
