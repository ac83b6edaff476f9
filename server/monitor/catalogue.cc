#include "server/monitor/catalogue.h"

#include <utility>

#include <google/protobuf/descriptor.h>

namespace normlab::server {
namespace {

prometheus::Counter& PlainCounter(prometheus::Registry& registry,
                                  const std::string& name,
                                  const std::string& help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry).Add({});
}

prometheus::Histogram& PlainHistogram(prometheus::Registry& registry,
                                      const std::string& name,
                                      const std::string& help,
                                      const std::vector<double>& buckets) {
  return prometheus::BuildHistogram().Name(name).Help(help).Register(registry).Add({}, buckets);
}

std::string ReasonLabel(int reason) {
  return reason == v1::FailureReason::FAILURE_REASON_UNSPECIFIED
             ? "none"
             : v1::FailureReason::Kind_Name(static_cast<v1::FailureReason::Kind>(reason));
}

// The families that have a `model` label, one child for each field of Model.
void MakeTraining(prometheus::Registry& registry,
                  std::map<v1::Model::KindCase, Catalogue::Training>& training) {
  auto& steps = prometheus::BuildCounter()
                    .Name("normlab_steps_total")
                    .Help("Training steps done by all workers, by model.")
                    .Register(registry);
  auto& examples = prometheus::BuildCounter()
                       .Name("normlab_examples_total")
                       .Help("Training examples processed by all workers, by model.")
                       .Register(registry);
  auto& durations = prometheus::BuildHistogram()
                        .Name("normlab_step_duration_seconds")
                        .Help("Duration of training steps, by model.")
                        .Register(registry);
  const google::protobuf::OneofDescriptor& kinds =
      *v1::Model::descriptor()->FindOneofByName("kind");
  for (int i = 0; i < kinds.field_count(); ++i) {
    const prometheus::Labels labels = {{"model", kinds.field(i)->name()}};
    training[static_cast<v1::Model::KindCase>(kinds.field(i)->number())] = {
        &steps.Add(labels), &examples.Add(labels), &durations.Add(labels, StepDurationBuckets())};
  }
}

}  // namespace

const Catalogue::Training& Catalogue::TrainingOf(v1::Model::KindCase model) const {
  const auto found = training.find(model);
  return found != training.end() ? found->second : training.at(v1::Model::kCustom);
}

const std::vector<double>& StepDurationBuckets() {
  static const auto& buckets =
      *new std::vector<double>{50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3,
                               50e-3, 100e-3, 200e-3, 500e-3, 1,    2,    5,    10};
  return buckets;
}

Catalogue::Catalogue(prometheus::Registry& registry)
    : attempts_started(
          PlainCounter(registry, "normlab_attempts_started_total", "Worker processes started.")),
      points(PlainCounter(registry, "normlab_metric_points_total", "Metric points stored.")),
      replay_mismatches(PlainCounter(
          registry,
          "normlab_replay_mismatches_total",
          "Points repeated after a resume that differed from the stored ones; anything but 0 is a "
          "bug.")),
      fenced_reports(PlainCounter(
          registry,
          "normlab_fenced_reports_total",
          "Hellos and reports refused because their attempt is not the job's current one.")),
      commit_operations(PlainCounter(registry,
                                     "normlab_commit_operations_total",
                                     "Write operations carried by database commits.")),
      checkpoint_bytes(PlainCounter(
          registry, "normlab_checkpoint_bytes_total", "Bytes of checkpoints written.")),
      streams_cut_off(PlainCounter(registry,
                                   "normlab_streams_cut_off_total",
                                   "Streams ended because their reader was too slow.")),
      tokens_file_healthy(
          prometheus::BuildGauge()
              .Name("normlab_tokens_file_healthy")
              .Help("1 while what the tokens file says is in force, 0 while it is wrong.")
              .Register(registry)
              .Add({})),
      queue_wait(PlainHistogram(registry,
                                "normlab_queue_wait_seconds",
                                "Seconds that jobs waited in the queue.",
                                {0.01, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14400, 86400})),
      commit_duration(PlainHistogram(
          registry,
          "normlab_commit_duration_seconds",
          "Duration of database commits.",
          {1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5})),
      checkpoint_duration(PlainHistogram(registry,
                                         "normlab_checkpoint_duration_seconds",
                                         "Duration of writing checkpoints.",
                                         {0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60})),
      memory_estimate(PlainHistogram(
          registry,
          "normlab_memory_estimate_ratio",
          "Most memory that the process of an attempt had, over what was reserved for it.",
          {0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2})) {
  MakeTraining(registry, training);
  auto& recovered_family =
      prometheus::BuildCounter()
          .Name("normlab_jobs_recovered_total")
          .Help("Unfinished jobs found when the server started, by how they came through.")
          .Register(registry);
  constexpr std::array<const char*, kRecoveries> kRecoveryNames = {"queued", "reconnected",
                                                                   "requeued", "ended", "failed"};
  for (size_t how = 0; how < kRecoveries; ++how) {
    recovered[how] = &recovered_family.Add({{"how", kRecoveryNames[how]}});
  }
  auto& transition_family =
      prometheus::BuildCounter()
          .Name("normlab_job_transitions_total")
          .Help("State changes of jobs, by new state and by the failure that caused them.")
          .Register(registry);
  auto& attempt_family = prometheus::BuildCounter()
                             .Name("normlab_attempts_total")
                             .Help("Attempts that ended, by outcome.")
                             .Register(registry);
  auto& refused_family =
      prometheus::BuildCounter()
          .Name("normlab_calls_refused_total")
          .Help("Calls refused for who made them or for how often they came, by code.")
          .Register(registry);
  refused_unauthenticated = &refused_family.Add({{"code", "UNAUTHENTICATED"}});
  refused_permission = &refused_family.Add({{"code", "PERMISSION_DENIED"}});
  refused_exhausted = &refused_family.Add({{"code", "RESOURCE_EXHAUSTED"}});
  tokens_file_healthy.Set(1);
  for (int state = 1; state < kStates; ++state) {
    const std::string state_name = v1::Job::State_Name(static_cast<v1::Job::State>(state));
    const bool with_reason = state == v1::Job::FAILED || state == v1::Job::QUEUED;
    for (int reason = 0; reason < (with_reason ? kReasons : 1); ++reason) {
      transitions[state][reason] =
          &transition_family.Add({{"state", state_name}, {"reason", ReasonLabel(reason)}});
    }
  }
  for (const v1::Job::State state : {v1::Job::SUCCEEDED, v1::Job::DIVERGED, v1::Job::CANCELLED}) {
    ended_by_state[state] = &attempt_family.Add({{"outcome", v1::Job::State_Name(state)}});
  }
  for (int reason = 1; reason < kReasons; ++reason) {
    ended_by_reason[reason] = &attempt_family.Add({{"outcome", ReasonLabel(reason)}});
  }
}

prometheus::MetricFamily GaugeFamily(std::string name, std::string help) {
  prometheus::MetricFamily family;
  family.name = std::move(name);
  family.help = std::move(help);
  family.type = prometheus::MetricType::Gauge;
  return family;
}

prometheus::ClientMetric GaugeValue(double value,
                                    std::vector<prometheus::ClientMetric::Label> labels) {
  prometheus::ClientMetric metric;
  metric.label = std::move(labels);
  metric.gauge.value = value;
  return metric;
}

std::vector<prometheus::MetricFamily> SampleFamilies(const ServiceSample& sample,
                                                     const std::string& version) {
  std::vector<prometheus::MetricFamily> families;
  const auto plain = [&](const char* name, const char* help, double value) {
    families.push_back(GaugeFamily(name, help));
    families.back().metric.push_back(GaugeValue(value));
  };
  const auto capacity = [&](const char* name, const char* help, double total, double reserved) {
    families.push_back(GaugeFamily(name, help));
    families.back().metric.push_back(GaugeValue(total, {{"kind", "capacity"}}));
    families.back().metric.push_back(GaugeValue(reserved, {{"kind", "reserved"}}));
  };

  families.push_back(GaugeFamily("normlab_jobs", "Jobs stored, by state."));
  std::array<int64_t, Catalogue::kStates> by_state{};
  for (const auto& [state, count] : sample.jobs) {
    if (state > 0 && state < Catalogue::kStates) {
      by_state[state] += count;
    }
  }
  for (int state = 1; state < Catalogue::kStates; ++state) {
    families.back().metric.push_back(
        GaugeValue(static_cast<double>(by_state[state]),
                   {{"state", v1::Job::State_Name(static_cast<v1::Job::State>(state))}}));
  }
  plain("normlab_queue_depth", "Jobs that wait for cores and memory.",
        static_cast<double>(sample.queue_depth));
  plain("normlab_queue_oldest_wait_seconds",
        "How long the job that has waited longest has waited by now; 0 when none waits.",
        sample.oldest_wait_seconds);
  plain("normlab_stream_subscribers", "Streams that follow a job.",
        static_cast<double>(sample.stream_subscribers));
  plain("normlab_stream_lag_records",
        "Committed records that the stream which is furthest behind has not been sent.",
        static_cast<double>(sample.stream_lag_records));
  plain("normlab_workers", "Worker processes that run.", static_cast<double>(sample.workers));
  families.push_back(GaugeFamily("normlab_worker_cpu_seconds_total",
                                 "CPU time of worker processes, ended ones included."));
  families.back().type = prometheus::MetricType::Counter;
  families.back().metric.emplace_back().counter.value = sample.worker_cpu_seconds;
  plain("normlab_worker_resident_memory_bytes", "Resident memory of the worker processes that run.",
        static_cast<double>(sample.worker_resident_bytes));
  plain("normlab_worker_report_age_seconds",
        "Longest time for which a connected worker has had no report stored; 0 without workers.",
        sample.report_age_seconds);
  plain("normlab_data_disk_size_bytes", "Size of the disk that holds the data folder.",
        static_cast<double>(sample.disk.size_bytes));
  plain("normlab_data_disk_free_bytes", "What may still be written to that disk.",
        static_cast<double>(sample.disk.free_bytes));
  families.push_back(GaugeFamily("normlab_database_bytes", "Size of the database's files."));
  families.back().metric.push_back(
      GaugeValue(static_cast<double>(sample.disk.database_bytes), {{"file", "main"}}));
  families.back().metric.push_back(
      GaugeValue(static_cast<double>(sample.disk.log_bytes), {{"file", "wal"}}));
  if (sample.work_disk.has_value()) {
    plain("normlab_work_disk_size_bytes", "Size of the disk that holds the work folder.",
          static_cast<double>(sample.work_disk->size_bytes));
    plain("normlab_work_disk_free_bytes", "What may still be written to that disk.",
          static_cast<double>(sample.work_disk->free_bytes));
  }
  if (sample.certificate.has_value()) {
    plain("normlab_tls_certificate_not_after_seconds",
          "When the certificate that is served ends, since unix epoch.",
          static_cast<double>(sample.certificate->end));
    plain("normlab_tls_files_healthy",
          "1 while the files of certificate and key are what is served, else 0.",
          sample.certificate->files_healthy ? 1 : 0);
  }
  plain("normlab_ready", "1 while jobs are taken and started, as /readyz says, else 0.",
        sample.ready ? 1 : 0);
  plain("normlab_store_healthy", "1 while the database takes writes, else 0.",
        sample.store_healthy ? 1 : 0);
  plain("normlab_executor_healthy",
        "1 while whatever runs the jobs answers (this machine always does, Slurm when its commands "
        "work), else 0.",
        sample.executor_healthy ? 1 : 0);
  capacity("normlab_cores", "Cores that jobs may use, and those that running jobs have reserved.",
           static_cast<double>(sample.cores_capacity), static_cast<double>(sample.cores_reserved));
  capacity("normlab_memory_bytes",
           "Memory that jobs may reserve, and what running jobs have reserved.",
           static_cast<double>(sample.memory_bytes_capacity),
           static_cast<double>(sample.memory_bytes_reserved));
  families.push_back(GaugeFamily("normlab_build_info", "Always 1; the label is the version."));
  families.back().metric.push_back(GaugeValue(1, {{"version", version}}));
  return families;
}

}  // namespace normlab::server
