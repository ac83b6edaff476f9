#include "server/monitor/metrics.h"

#include <algorithm>
#include <iterator>

#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include "server/monitor/catalogue.h"
#include "server/monitor/grpc_metrics.h"
#include "server/monitor/process_metrics.h"

namespace normlab::server {
namespace {

void AppendTo(std::vector<prometheus::MetricFamily> more,
              std::vector<prometheus::MetricFamily>& families) {
  families.insert(families.end(), std::make_move_iterator(more.begin()),
                  std::make_move_iterator(more.end()));
}

// Also NaN counts as 0, which would spoil a histogram's sum for ever.
double NotNegative(double value) {
  return value > 0 ? value : 0.0;
}

}  // namespace

Metrics::Metrics(const std::string& version)
    : version_(version),
      registry_(std::make_unique<prometheus::Registry>()),
      catalogue_(std::make_unique<Catalogue>(*registry_)),
      grpc_(std::make_unique<GrpcMetrics>(*registry_, GrpcMetrics::ServedMethods())) {}

Metrics::~Metrics() = default;

void Metrics::OnTransition(v1::Job::State state, v1::FailureReason::Kind reason) {
  if (state <= 0 || state >= Catalogue::kStates || reason < 0 || reason >= Catalogue::kReasons) {
    return;
  }
  // States that cannot fail have only the counter without a reason.
  prometheus::Counter* counter = catalogue_->transitions[state][reason];
  (counter != nullptr ? counter : catalogue_->transitions[state][0])->Increment();
}

void Metrics::OnQueueWait(double seconds) {
  catalogue_->queue_wait.Observe(NotNegative(seconds));
}

void Metrics::OnAttemptStarted() {
  catalogue_->attempts_started.Increment();
}

void Metrics::OnFenced() {
  catalogue_->fenced_reports.Increment();
}

void Metrics::OnAttemptEnded(v1::Job::State state, v1::FailureReason::Kind reason) {
  if (state > 0 && state < Catalogue::kStates && catalogue_->ended_by_state[state] != nullptr) {
    catalogue_->ended_by_state[state]->Increment();
    return;
  }
  const bool known = reason > 0 && reason < Catalogue::kReasons;
  catalogue_->ended_by_reason[known ? reason : v1::FailureReason::INTERNAL]->Increment();
}

void Metrics::OnPeakMemory(int64_t peak, int64_t reserved) {
  if (reserved > 0) {
    catalogue_->memory_estimate.Observe(static_cast<double>(peak) / static_cast<double>(reserved));
  }
}

void Metrics::OnRecovered(Recovery how) {
  catalogue_->recovered[static_cast<size_t>(how)]->Increment();
}

void Metrics::OnCheckpoint(double seconds, int64_t bytes) {
  catalogue_->checkpoint_duration.Observe(NotNegative(seconds));
  catalogue_->checkpoint_bytes.Increment(static_cast<double>(std::max<int64_t>(bytes, 0)));
}

void Metrics::OnReport(v1::Model::KindCase model,
                       int64_t steps,
                       int64_t examples,
                       absl::Span<const float> step_seconds,
                       int64_t points) {
  const Catalogue::Training& training = catalogue_->TrainingOf(model);
  training.steps->Increment(static_cast<double>(steps));
  training.examples->Increment(static_cast<double>(examples));
  catalogue_->points.Increment(static_cast<double>(points));
  if (step_seconds.empty()) {
    return;
  }
  // Sorted into buckets here, so that the histogram's lock is taken once per report.
  const std::vector<double>& bounds = StepDurationBuckets();
  std::vector<double> increments(bounds.size() + 1, 0.0);
  double sum = 0;
  for (const float value : step_seconds) {
    const double seconds = NotNegative(static_cast<double>(value));
    const auto bucket = std::lower_bound(bounds.begin(), bounds.end(), seconds);
    increments[bucket - bounds.begin()] += 1;
    sum += seconds;
  }
  training.step_duration->ObserveMultiple(increments, sum);
}

void Metrics::OnReplayMismatch(int64_t points) {
  catalogue_->replay_mismatches.Increment(static_cast<double>(points));
}

void Metrics::OnCallRefused(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kUnauthenticated:
      catalogue_->refused_unauthenticated->Increment();
      break;
    case absl::StatusCode::kPermissionDenied:
      catalogue_->refused_permission->Increment();
      break;
    default:
      catalogue_->refused_exhausted->Increment();
  }
}

void Metrics::OnTokensRead(bool ok) {
  catalogue_->tokens_file_healthy.Set(ok ? 1 : 0);
}

void Metrics::OnCommit(double seconds, int operations) {
  catalogue_->commit_duration.Observe(seconds);
  catalogue_->commit_operations.Increment(operations);
}

void Metrics::OnSlowReaderCutOff() {
  catalogue_->streams_cut_off.Increment();
}

void Metrics::SetSampler(std::function<ServiceSample()> sampler) {
  absl::MutexLock lock(&mu_);
  sampler_ = std::move(sampler);
}

void Metrics::StopSampling() {
  absl::MutexLock lock(&mu_);
  sampler_ = nullptr;
}

std::string Metrics::Scrape() {
  ServiceSample sample;
  {
    // Held during the call so that StopSampling can promise that none is running.
    absl::MutexLock lock(&mu_);
    if (sampler_) {
      last_sample_ = sampler_();
    }
    sample = last_sample_;
  }
  std::vector<prometheus::MetricFamily> families = registry_->Collect();
  AppendTo(SampleFamilies(sample, version_), families);
  AppendTo(ProcessFamilies(), families);
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace normlab::server
