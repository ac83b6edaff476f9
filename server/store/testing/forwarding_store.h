#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/store/store.h"

// For tests: a store that hands everything on to another one, for a test to override what it wants
// to fail.
namespace normlab::server::testing {

// Thread-safe as the inner store, which it owns.
class ForwardingStore : public Store {
 public:
  explicit ForwardingStore(std::unique_ptr<Store> inner) : inner_(std::move(inner)) {}

  ExperimentStore& experiments() override { return inner_->experiments(); }
  void CreateJob(v1::Job job,
                 std::string request_id,
                 std::string request_sha256,
                 absl::AnyInvocable<void(absl::StatusOr<CreateResult>) &&> done) override {
    inner_->CreateJob(std::move(job), std::move(request_id), std::move(request_sha256),
                      std::move(done));
  }
  void UpdateJob(std::string job_id,
                 Mutator mutate,
                 std::optional<AttemptSecrets> secrets,
                 JobCallback done) override {
    inner_->UpdateJob(std::move(job_id), std::move(mutate), std::move(secrets), std::move(done));
  }
  void AppendReport(AttemptKey attempt,
                    v1::WorkerReport report,
                    absl::AnyInvocable<void(absl::StatusOr<AppendResult>) &&> done) override {
    inner_->AppendReport(std::move(attempt), std::move(report), std::move(done));
  }
  void DeleteJob(std::string job_id, absl::AnyInvocable<void(absl::Status) &&> done) override {
    inner_->DeleteJob(std::move(job_id), std::move(done));
  }
  void SaveUsage(std::vector<OwnerUsage> usage,
                 absl::AnyInvocable<void(absl::Status) &&> done) override {
    inner_->SaveUsage(std::move(usage), std::move(done));
  }
  void FailDamaged(std::string job_id, v1::Failure failure, JobCallback done) override {
    inner_->FailDamaged(std::move(job_id), std::move(failure), std::move(done));
  }
  void SetCommitListener(CommitListener listener) override {
    inner_->SetCommitListener(std::move(listener));
  }
  void SetCommitObserver(CommitObserver observer) override {
    inner_->SetCommitObserver(std::move(observer));
  }
  absl::StatusOr<v1::Job> GetJob(const std::string& job_id) override {
    return inner_->GetJob(job_id);
  }
  absl::StatusOr<std::optional<v1::Job>> FindRequest(const std::string& owner,
                                                     const std::string& request_id,
                                                     const std::string& request_sha256) override {
    return inner_->FindRequest(owner, request_id, request_sha256);
  }
  absl::StatusOr<JobPage> ListJobs(const JobFilter& filter,
                                   int page_size,
                                   const std::string& page_token) override {
    return inner_->ListJobs(filter, page_size, page_token);
  }
  absl::StatusOr<std::vector<v1::Job>> ActiveJobs(std::vector<std::string>* damaged) override {
    return inner_->ActiveJobs(damaged);
  }
  absl::StatusOr<std::vector<QueueEntry>> QueuedJobs() override { return inner_->QueuedJobs(); }
  absl::StatusOr<int64_t> QueuedBytes(const std::string& owner) override {
    return inner_->QueuedBytes(owner);
  }
  absl::StatusOr<AttemptSecrets> GetAttemptSecrets(const AttemptKey& attempt) override {
    return inner_->GetAttemptSecrets(attempt);
  }
  absl::StatusOr<RecordPage> ReadRecords(const std::string& job_id,
                                         int64_t after_sequence,
                                         int64_t max_bytes) override {
    return inner_->ReadRecords(job_id, after_sequence, max_bytes);
  }
  absl::StatusOr<PointSlice> ReadPoints(const std::string& job_id,
                                        int64_t after_sequence,
                                        int64_t until_sequence,
                                        const std::vector<uint32_t>& series,
                                        int64_t from_step,
                                        int64_t to_step,
                                        int64_t max_bytes) override {
    return inner_->ReadPoints(job_id, after_sequence, until_sequence, series, from_step, to_step,
                              max_bytes);
  }
  absl::StatusOr<LogPage> ReadLogs(const std::string& job_id,
                                   int64_t after_sequence,
                                   int64_t max_bytes) override {
    return inner_->ReadLogs(job_id, after_sequence, max_bytes);
  }
  absl::StatusOr<std::vector<StoredArtifact>> ListArtifacts(const std::string& job_id) override {
    return inner_->ListArtifacts(job_id);
  }
  absl::StatusOr<std::vector<OwnerUsage>> LoadUsage() override { return inner_->LoadUsage(); }
  absl::StatusOr<std::vector<v1::Series>> ReadSeries(const std::string& job_id) override {
    return inner_->ReadSeries(job_id);
  }
  absl::Status ReadMetrics(
      const MetricQuery& query,
      const std::function<bool(const std::string& series,
                               absl::Span<const int64_t> steps,
                               absl::Span<const double> values)>& sink) override {
    return inner_->ReadMetrics(query, sink);
  }
  std::vector<std::pair<v1::Job::State, int64_t>> CountByState() override {
    return inner_->CountByState();
  }
  int64_t CountJobs(const std::string& owner, v1::Job::State state) override {
    return inner_->CountJobs(owner, state);
  }
  absl::Status Maintain() override { return inner_->Maintain(); }
  absl::Status Health() override { return inner_->Health(); }
  void Close() override { inner_->Close(); }

 private:
  const std::unique_ptr<Store> inner_;
};

}  // namespace normlab::server::testing
