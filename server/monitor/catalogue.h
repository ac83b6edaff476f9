#pragma once

#include <array>
#include <string>
#include <vector>

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/metric_family.h>
#include <prometheus/registry.h>

#include "server/monitor/metrics.h"

#include "normlab/v1/job.pb.h"

namespace normlab::server {

// Every normlab_* metric, with typed handles that are made once: an event is one addition, never a
// look-up by label. Handles live as long as the registry. Thread-safe.
//
//   normlab_jobs{state}                          gauge      jobs stored, by state
//   normlab_job_transitions_total{state,reason}  counter    state changes; reason `none` unless
//   something failed normlab_queue_depth                          gauge      jobs that wait for
//   cores and memory normlab_queue_wait_seconds                   histogram  from entering the
//   queue to leaving it normlab_attempts_started_total               counter    worker processes
//   started normlab_attempts_total{outcome}              counter    attempts ended: SUCCEEDED,
//   DIVERGED, CANCELLED or a failure reason normlab_steps_total                          counter
//   training steps normlab_examples_total                       counter    training examples
//   normlab_step_duration_seconds                histogram  duration of training steps
//   normlab_metric_points_total                  counter    metric points stored
//   normlab_replay_mismatches_total              counter    repeated points that differed; anything
//   but 0 is a bug normlab_commit_duration_seconds              histogram  duration of database
//   commits normlab_commit_operations_total              counter    operations in those commits
//   normlab_store_healthy                        gauge      1 while commits succeed
//   normlab_stream_subscribers                   gauge      streams that follow a job
//   normlab_streams_cut_off_total                counter    streams ended for a reader that was too
//   slow normlab_cores{kind}                          gauge      kind: capacity, reserved
//   normlab_memory_bytes{kind}                   gauge      kind: capacity, reserved
//   normlab_calls_refused_total{code}            counter    calls refused for who made them or how often
//   normlab_tokens_file_healthy                  gauge      1 while the tokens file is in force as it is (or none is used)
//   normlab_build_info{version}                  gauge      always 1
//
// Beside them: process_* (process_metrics.h) and grpc_server_* (grpc_metrics.h).
struct Catalogue {
  explicit Catalogue(prometheus::Registry& registry);

  static constexpr int kStates = v1::Job::State_MAX + 1;
  static constexpr int kReasons = v1::FailureReason::Kind_MAX + 1;

  // Null where a combination cannot happen; see Transition().
  std::array<std::array<prometheus::Counter*, kReasons>, kStates> transitions{};
  std::array<prometheus::Counter*, kStates> ended_by_state{};
  std::array<prometheus::Counter*, kReasons> ended_by_reason{};
  prometheus::Counter& attempts_started;
  prometheus::Counter& steps;
  prometheus::Counter& examples;
  prometheus::Counter& points;
  prometheus::Counter& replay_mismatches;
  prometheus::Counter& fenced_reports;
  prometheus::Counter& commit_operations;
  prometheus::Counter& streams_cut_off;
  prometheus::Counter* refused_unauthenticated = nullptr;
  prometheus::Counter* refused_permission = nullptr;
  prometheus::Counter* refused_exhausted = nullptr;
  prometheus::Gauge& tokens_file_healthy;
  prometheus::Histogram& queue_wait;
  prometheus::Histogram& step_duration;
  prometheus::Histogram& commit_duration;
};

// Upper bounds of normlab_step_duration_seconds. [seconds]
const std::vector<double>& StepDurationBuckets();

// The gauges that are sampled at each scrape, with every label value present.
std::vector<prometheus::MetricFamily> SampleFamilies(const ServiceSample& sample,
                                                     const std::string& version);

// Helpers for families without a registry.
prometheus::MetricFamily GaugeFamily(std::string name, std::string help);
prometheus::ClientMetric GaugeValue(double value,
                                    std::vector<prometheus::ClientMetric::Label> labels = {});

}  // namespace normlab::server
