#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

#include "server/monitor/disk.h"
#include "server/monitor/observer.h"

#include "normlab/v1/job.pb.h"

namespace prometheus {
class Registry;
}

namespace normlab::server {

struct Catalogue;
class GrpcMetrics;

// What is read from the service when Prometheus asks, because its owner keeps it exactly anyway.
struct ServiceSample {
  std::vector<std::pair<v1::Job::State, int64_t>> jobs;
  int64_t queue_depth = 0;
  double oldest_wait_seconds = 0;
  int64_t stream_subscribers = 0;
  int64_t stream_lag_records = 0;
  int64_t workers = 0;
  double worker_cpu_seconds = 0;
  int64_t worker_resident_bytes = 0;
  double report_age_seconds = 0;
  int64_t cores_capacity = 0;
  int64_t cores_reserved = 0;
  int64_t memory_bytes_capacity = 0;
  int64_t memory_bytes_reserved = 0;
  bool store_healthy = true;
  bool executor_healthy = true;
  bool ready = false;  // as /readyz says
  DiskSample disk;
  std::optional<common::DiskSpace> work_disk;  // none: the work folder is on the data folder's
  struct Certificate {
    int64_t end = 0;            // of the one that is served, in seconds since 1970
    bool files_healthy = true;  // the files are those that are served
  };
  std::optional<Certificate> certificate;  // none: no TLS
};

// Everything that the server tells Prometheus; the names, labels and buckets are in catalogue.h. No
// label ever holds a job, an owner or a series: the number of time series is fixed at start.
//
// Thread-safe; events cost some tens of nanoseconds and never block. The sampler must stay callable
// until StopSampling.
class Metrics final : public Observer {
 public:
  explicit Metrics(const std::string& version);
  ~Metrics() override;
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  void OnTransition(v1::Job::State state, v1::FailureReason::Kind reason) override;
  void OnQueueWait(double seconds) override;
  void OnAttemptStarted() override;
  void OnFenced() override;
  void OnAttemptEnded(v1::Job::State state, v1::FailureReason::Kind reason) override;
  void OnPeakMemory(int64_t peak, int64_t reserved) override;
  void OnRecovered(Recovery how) override;
  void OnCheckpoint(double seconds, int64_t bytes) override;
  void OnReport(v1::Model::KindCase model,
                int64_t steps,
                int64_t examples,
                absl::Span<const float> step_seconds,
                int64_t points) override;
  void OnReplayMismatch(int64_t points) override;
  void OnCallRefused(absl::StatusCode code) override;
  void OnTokensRead(bool ok) override;
  // The store's commit observer.
  void OnCommit(double seconds, int operations);
  // A stream was ended because its reader did not take anything for too long.
  void OnSlowReaderCutOff();

  // Counters of RPCs, fed by the interceptors that it makes.
  GrpcMetrics& grpc() { return *grpc_; }

  // `sampler` is called on the scraping thread, once per scrape.
  void SetSampler(std::function<ServiceSample()> sampler);
  // After return the sampler is not running and is never called again; gauges keep their last
  // values.
  void StopSampling();

  // The exposition in Prometheus' text format, version 0.0.4.
  std::string Scrape();

 private:
  const std::string version_;
  const std::unique_ptr<prometheus::Registry> registry_;
  const std::unique_ptr<Catalogue> catalogue_;
  const std::unique_ptr<GrpcMetrics> grpc_;
  absl::Mutex mu_;
  std::function<ServiceSample()> sampler_ ABSL_GUARDED_BY(mu_);
  ServiceSample last_sample_ ABSL_GUARDED_BY(mu_);
};

// The content type of Metrics::Scrape.
inline constexpr char kMetricsContentType[] = "text/plain; version=0.0.4; charset=utf-8";

}  // namespace normlab::server
