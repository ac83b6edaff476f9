#pragma once

#include <array>
#include <map>
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

// Every normlab_* metric that counts events, with typed handles that are made once: an event is one
// addition, never a look-up by label. Names, types, labels and meanings of all metrics stand in
// docs/operations.md ("Metrics"), and a test compares that table with a scrape. Handles live as long
// as the registry. Thread-safe.
struct Catalogue {
  explicit Catalogue(prometheus::Registry& registry);

  static constexpr int kStates = v1::Job::State_MAX + 1;
  static constexpr int kReasons = v1::FailureReason::Kind_MAX + 1;
  static constexpr size_t kRecoveries = static_cast<size_t>(Recovery::kFailed) + 1;

  // What is counted by model: the field of Model that the network is of.
  struct Training {
    prometheus::Counter* steps = nullptr;
    prometheus::Counter* examples = nullptr;
    prometheus::Histogram* step_duration = nullptr;
  };
  // A model that is not known, of a worker that has not been introduced, counts as custom.
  const Training& TrainingOf(v1::Model::KindCase model) const;

  // Null where a combination cannot happen; see Transition().
  std::array<std::array<prometheus::Counter*, kReasons>, kStates> transitions{};
  std::array<prometheus::Counter*, kStates> ended_by_state{};
  std::array<prometheus::Counter*, kReasons> ended_by_reason{};
  prometheus::Counter& attempts_started;
  std::map<v1::Model::KindCase, Training> training;
  std::array<prometheus::Counter*, kRecoveries> recovered{};
  prometheus::Counter& points;
  prometheus::Counter& replay_mismatches;
  prometheus::Counter& fenced_reports;
  prometheus::Counter& commit_operations;
  prometheus::Counter& checkpoint_bytes;
  prometheus::Counter& streams_cut_off;
  prometheus::Counter* refused_unauthenticated = nullptr;
  prometheus::Counter* refused_permission = nullptr;
  prometheus::Counter* refused_exhausted = nullptr;
  prometheus::Gauge& tokens_file_healthy;
  prometheus::Histogram& queue_wait;
  prometheus::Histogram& commit_duration;
  prometheus::Histogram& checkpoint_duration;
  prometheus::Histogram& memory_estimate;
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
