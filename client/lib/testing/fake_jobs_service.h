#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "grpcpp/server.h"

#include "client/lib/testing/fake_experiments.h"
#include "client/lib/testing/fake_records.h"

#include "normlab/v1/jobs.grpc.pb.h"
#include "normlab/v1/normalization.grpc.pb.h"

namespace normlab::client {

// The Jobs, Experiments, Normalization and Server services in memory, with faults on demand, on a real gRPC server at a free
// loopback port. Behaves as the contract says: sequences from 1, resumption inside a batch,
// terminal state last, request ids, of filters the terms state and experiment. Thread-safe.
class FakeServer : private normlab::v1::Jobs::Service {
 public:
  // On a free loopback port, or on that of a server that is gone.
  explicit FakeServer(int port = 0);
  ~FakeServer() override;

  std::string address() const;  // 127.0.0.1:PORT
  int port() const { return port_; }

  FakeExperiments& experiments() { return experiments_; }

  // Stores a job with its records; a job whose last record is not terminal stays live.
  void AddJob(normlab::v1::Job job, std::vector<FakeRecord> records);
  // Appends a record to a live job.
  void AppendRecord(const std::string& name, FakeRecord record);

  // The next `count` unary calls end with `status`.
  void FailCalls(int count, grpc::Status status);
  // The next WatchJob (or ReadLogs, ReadMetrics) streams end with UNAVAILABLE after so many of
  // their records (messages), one entry each.
  void DropStreams(std::vector<int64_t> after);
  // Every WatchJob stream skips (or, with `repeat`, sends twice) the record of this sequence: a
  // bug.
  void BreakSequence(int64_t sequence, bool repeat);
  // The next WatchJob stream sends nothing at all until the client gives up.
  void FreezeNextStream();

  // From now on messages of ReadMetrics have positions, and a stream that names one goes on after it.
  void GivePositions();
  // A file of a job, listed and read as the contract says, in small pieces.
  void AddArtifact(normlab::v1::Artifact artifact, std::string bytes);

  // What came in so far.
  std::vector<normlab::v1::CreateJobRequest> create_requests() const;
  std::vector<normlab::v1::NormalizeRequest> normalize_requests() const;
  std::vector<normlab::v1::UpdateJobRequest> update_requests() const;
  std::vector<normlab::v1::DeleteJobRequest> delete_requests() const;
  std::vector<int64_t> watch_positions() const;       // after_sequence of every WatchJob
  std::vector<std::string> metric_positions() const;  // position of every ReadMetrics
  std::vector<int64_t> artifact_offsets() const;      // offset of every ReadArtifact
  int calls() const;                                  // unary calls

 private:
  struct StoredJob {
    normlab::v1::Job job;
    std::vector<FakeRecord> records;
    bool IsOver() const;
  };
  class Info;
  class Normalization;

  grpc::Status CreateJob(grpc::ServerContext*,
                         const normlab::v1::CreateJobRequest*,
                         normlab::v1::Job*) override;
  grpc::Status GetJob(grpc::ServerContext*,
                      const normlab::v1::GetJobRequest*,
                      normlab::v1::Job*) override;
  grpc::Status ListJobs(grpc::ServerContext*,
                        const normlab::v1::ListJobsRequest*,
                        normlab::v1::ListJobsResponse*) override;
  grpc::Status WatchJob(grpc::ServerContext*,
                        const normlab::v1::WatchJobRequest*,
                        grpc::ServerWriter<normlab::v1::WatchJobResponse>*) override;
  grpc::Status CancelJob(grpc::ServerContext*,
                         const normlab::v1::CancelJobRequest*,
                         normlab::v1::Job*) override;
  grpc::Status PauseJob(grpc::ServerContext*,
                        const normlab::v1::PauseJobRequest*,
                        normlab::v1::Job*) override;
  grpc::Status ResumeJob(grpc::ServerContext*,
                         const normlab::v1::ResumeJobRequest*,
                         normlab::v1::Job*) override;
  grpc::Status UpdateJob(grpc::ServerContext*,
                         const normlab::v1::UpdateJobRequest*,
                         normlab::v1::Job*) override;
  grpc::Status DeleteJob(grpc::ServerContext*,
                         const normlab::v1::DeleteJobRequest*,
                         google::protobuf::Empty*) override;
  grpc::Status ReadMetrics(grpc::ServerContext*,
                           const normlab::v1::ReadMetricsRequest*,
                           grpc::ServerWriter<normlab::v1::ReadMetricsResponse>*) override;
  grpc::Status ReadLogs(grpc::ServerContext*,
                        const normlab::v1::ReadLogsRequest*,
                        grpc::ServerWriter<normlab::v1::ReadLogsResponse>*) override;

  grpc::Status ListArtifacts(grpc::ServerContext*,
                             const normlab::v1::ListArtifactsRequest*,
                             normlab::v1::ListArtifactsResponse*) override;
  grpc::Status ReadArtifact(grpc::ServerContext*,
                            const normlab::v1::ReadArtifactRequest*,
                            grpc::ServerWriter<normlab::v1::ReadArtifactResponse>*) override;

  // The fault that a unary call meets, or OK.
  grpc::Status EnterCall();
  // Records after which the stream that begins now is dropped; -1: never.
  int64_t NextDrop();
  // A live job becomes `to`; FAILED_PRECONDITION when it is not in a state that may.
  grpc::Status Move(const std::string& name,
                    normlab::v1::Job::State to,
                    bool allowed_when_paused,
                    normlab::v1::Job* response);
  // The stored job, or NOT_FOUND. mu_ must be held.
  grpc::Status Find(const std::string& name, StoredJob** job);

  mutable std::mutex mu_;
  std::condition_variable changed_;
  std::map<std::string, StoredJob> jobs_;
  std::map<std::string, std::string> request_ids_;  // to job names
  std::vector<normlab::v1::CreateJobRequest> create_requests_;
  std::vector<normlab::v1::UpdateJobRequest> update_requests_;
  std::vector<normlab::v1::DeleteJobRequest> delete_requests_;
  std::vector<int64_t> watch_positions_;
  std::vector<int64_t> drops_;
  bool give_positions_ = false;
  std::vector<std::string> metric_positions_;
  std::vector<int64_t> artifact_offsets_;
  std::vector<std::pair<normlab::v1::Artifact, std::string>> artifacts_;
  int failures_ = 0;
  grpc::Status failure_;
  int calls_ = 0;
  int64_t broken_sequence_ = 0;
  bool repeat_broken_ = false;
  bool freeze_ = false;
  bool stopping_ = false;
  FakeExperiments experiments_;
  std::unique_ptr<Info> info_;
  std::unique_ptr<Normalization> normalization_;
  std::vector<normlab::v1::NormalizeRequest> normalize_requests_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
};

}  // namespace normlab::client
