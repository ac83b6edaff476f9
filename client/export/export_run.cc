#include "client/export/export_run.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "client/lib/proto_time.h"
#include "client/lib/resource_name.h"
#include "common/status_macros.h"
#include "common/wildcard.h"

namespace normlab::client {
namespace {

using normlab::v1::Experiment;
using normlab::v1::Job;

// Adds the jobs of an experiment, or only `only` of them.
void AddRuns(const Experiment& experiment, const std::string& only, ExportPlan& plan) {
  for (int c = 0; c < experiment.cells_size(); ++c) {
    const normlab::v1::Cell& cell = experiment.cells(c);
    for (int s = 0; s < cell.jobs_size(); ++s) {
      if (only.empty() || cell.jobs(s) == only) {
        plan.runs.push_back({.job = cell.jobs(s),
                             .experiment = experiment.name(),
                             .cell = c,
                             .axes = {cell.values().begin(), cell.values().end()},
                             .seed_index = s});
      }
    }
  }
  const auto add_axis = [&](const std::string& field) {
    if (std::find(plan.axes.begin(), plan.axes.end(), field) == plan.axes.end()) {
      plan.axes.push_back(field);
    }
  };
  for (const normlab::v1::Axis& axis : experiment.design().axes()) {
    add_axis(axis.field());
  }
  for (const ExportRun& run : plan.runs) {  // of designs that list their cells
    for (const auto& [field, value] : run.axes) {
      add_axis(field);
    }
  }
}

// `text` as a name that every file system takes, and that leads nowhere else.
std::string PathPart(const std::string& text) {
  constexpr size_t kLongest = 100;
  std::string part;
  for (const char c : text.substr(0, kLongest)) {
    const bool is_plain = absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' ||
                          c == '_' || c == '.' || c == ',' || c == '=' || c == '+';
    part.push_back(is_plain ? c : '_');
  }
  return part.empty() || part[0] == '.' ? absl::StrCat("_", part) : part;
}

// Hands points on with their times, and ends the watch at the last record that there was.
class PointReader : public WatchHandler {
 public:
  PointReader(int64_t last_sequence,
              const std::vector<std::string>& series,
              const PointConsumer& consume)
      : last_sequence_(last_sequence), patterns_(series), consume_(consume) {}

  bool is_done() const { return done_; }

  absl::Status OnMetrics(const MetricRecord& record) override {
    const absl::Time time = attempt_start_ + absl::Microseconds(record.elapsed_us);
    if (patterns_.empty()) {
      NORMLAB_RETURN_IF_ERROR(consume_(time, record));
      return Passed(record.sequence);
    }
    names_.clear();
    values_.clear();
    for (size_t i = 0; i < record.series.size(); ++i) {
      if (IsWanted(*record.series[i])) {
        names_.push_back(record.series[i]);
        values_.push_back(record.values[i]);
      }
    }
    if (!names_.empty()) {
      NORMLAB_RETURN_IF_ERROR(consume_(time, {.sequence = record.sequence,
                                              .step = record.step,
                                              .elapsed_us = record.elapsed_us,
                                              .series = names_,
                                              .values = values_}));
    }
    return Passed(record.sequence);
  }

  absl::Status OnState(int64_t sequence, const normlab::v1::StateChange& change) override {
    if (change.state() == Job::RUNNING) {
      attempt_start_ = ToTime(change.time());
    }
    return Passed(sequence);
  }

  absl::Status OnLog(int64_t sequence, const normlab::v1::LogLine& /*line*/) override {
    return Passed(sequence);
  }

 private:
  bool IsWanted(const std::string& name) const {
    return std::any_of(patterns_.begin(), patterns_.end(), [&](const std::string& pattern) {
      return common::WildcardMatch(pattern, name);
    });
  }

  // A status that is not OK ends the watch.
  absl::Status Passed(int64_t sequence) {
    done_ = sequence >= last_sequence_;
    return done_ ? absl::AbortedError("read to the present") : absl::OkStatus();
  }

  const int64_t last_sequence_;
  const std::vector<std::string>& patterns_;
  const PointConsumer& consume_;
  absl::Time attempt_start_ = absl::UnixEpoch();
  bool done_ = false;
  std::vector<const std::string*> names_;
  std::vector<double> values_;
};

}  // namespace

absl::StatusOr<ExportPlan> PlanExport(Client& client, const std::vector<std::string>& names) {
  ExportPlan plan;
  for (const std::string& name : names) {
    std::string job_name;
    std::string experiment_name = name;
    if (!absl::StartsWith(name, "experiments/")) {
      NORMLAB_ASSIGN_OR_RETURN(const Job job, client.GetJob(name));
      job_name = job.name();
      experiment_name = job.experiment();
    }
    if (experiment_name.empty()) {
      plan.runs.push_back({.job = job_name});
      continue;
    }
    NORMLAB_ASSIGN_OR_RETURN(const Experiment experiment, client.GetExperiment(experiment_name));
    AddRuns(experiment, job_name, plan);
  }
  return plan;
}

std::string RunFolder(const ExportRun& run, uint32_t seed) {
  if (run.experiment.empty()) {
    return PathPart(IdOf(run.job));
  }
  std::string cell = absl::StrCat(run.cell);
  for (const auto& [field, value] : run.axes) {
    absl::StrAppend(&cell, ",", field.substr(field.rfind('.') + 1), "=", value);
  }
  return absl::StrCat(PathPart(IdOf(run.experiment)), "/", PathPart(cell), "/seed=", seed);
}

absl::Status ReadPoints(Client& client,
                        const Job& job,
                        const std::vector<std::string>& series,
                        const PointConsumer& consume) {
  if (job.last_sequence() == 0) {
    return absl::OkStatus();
  }
  PointReader reader(job.last_sequence(), series, consume);
  const WatchResult result = client.WatchJob(job.name(), 0, reader);
  return reader.is_done() && absl::IsAborted(result.status) ? absl::OkStatus() : result.status;
}

}  // namespace normlab::client
