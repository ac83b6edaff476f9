// The form of a worker's report: what breaks the protocol is refused before anything is read or
// written for it.
#include <cmath>
#include <string>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/names.h"
#include "server/store/report.h"

namespace normlab::server {
namespace {

constexpr size_t kMaxSeriesNameBytes = 200;
// Steps, examples, microseconds: exact as doubles, and no sum or difference of some overflows.
constexpr int64_t kMaxCount = int64_t{1} << 53;

absl::Status CheckCount(absl::string_view what, int64_t count, int64_t most = kMaxCount) {
  return count >= 0 && count <= most
             ? absl::OkStatus()
             : InvalidReport(absl::StrCat(what, " is ", count, ", not between 0 and ", most));
}

absl::Status CheckAmount(absl::string_view what, double amount) {
  return std::isfinite(amount) && amount >= 0
             ? absl::OkStatus()
             : InvalidReport(absl::StrCat(what, " is ", amount, ", not a number from 0 on"));
}

template <typename Metrics>
absl::Status CheckMetrics(absl::string_view what, const Metrics& metrics) {
  if (metrics.size() > kMaxSeriesPerJob) {
    return InvalidReport(absl::StrCat(what, " of ", metrics.size(), " series"));
  }
  for (const auto& [name, value] : metrics) {
    if (name.empty() || name.size() > kMaxSeriesNameBytes) {
      return InvalidReport(absl::StrCat(what, " with a series name of ", name.size(), " bytes"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckBlock(const v1::MetricBlock& block) {
  if (block.steps().empty() || block.series().empty()) {
    return InvalidReport("a metric block without steps or without series");
  }
  if (int64_t{block.steps_size()} * block.series_size() != block.values_size()) {
    return InvalidReport(absl::StrCat("a metric block of ", block.steps_size(), " steps and ",
                                      block.series_size(), " series has ", block.values_size(),
                                      " values"));
  }
  if (!block.elapsed_us().empty() && block.elapsed_us_size() != block.steps_size()) {
    return InvalidReport(absl::StrCat("a metric block of ", block.steps_size(), " steps has ",
                                      block.elapsed_us_size(), " times"));
  }
  int64_t previous = -1;
  for (const int64_t step : block.steps()) {
    if (step <= previous) {
      return InvalidReport(
          absl::StrCat("step ", step, " follows step ", previous, " in a metric block"));
    }
    previous = step;
  }
  NORMLAB_RETURN_IF_ERROR(CheckCount("the last step of a metric block", previous));
  for (const int64_t elapsed : block.elapsed_us()) {
    NORMLAB_RETURN_IF_ERROR(CheckCount("a time in a metric block", elapsed));
  }
  absl::flat_hash_set<uint32_t> seen;
  for (const uint32_t id : block.series()) {
    if (!seen.insert(id).second) {
      return InvalidReport(absl::StrCat("series ", id, " stands twice in a metric block"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckProgress(const v1::Progress& progress) {
  NORMLAB_RETURN_IF_ERROR(CheckCount("progress.step", progress.step()));
  NORMLAB_RETURN_IF_ERROR(CheckCount("progress.total_steps", progress.total_steps()));
  NORMLAB_RETURN_IF_ERROR(CheckCount("progress.epoch", progress.epoch()));
  NORMLAB_RETURN_IF_ERROR(CheckCount("progress.total_epochs", progress.total_epochs()));
  NORMLAB_RETURN_IF_ERROR(
      CheckAmount("progress.examples_per_second", progress.examples_per_second()));
  return CheckMetrics("progress.latest_metrics", progress.latest_metrics());
}

absl::Status CheckResult(const v1::Result& result) {
  NORMLAB_RETURN_IF_ERROR(CheckCount("result.steps", result.steps()));
  NORMLAB_RETURN_IF_ERROR(CheckAmount("result.training_seconds", result.training_seconds()));
  for (const v1::ProbeCost& cost : result.probe_costs()) {
    NORMLAB_RETURN_IF_ERROR(CheckCount("result.probe_costs.runs", cost.runs()));
    NORMLAB_RETURN_IF_ERROR(CheckAmount("result.probe_costs.seconds", cost.seconds()));
    NORMLAB_RETURN_IF_ERROR(
        CheckAmount("result.probe_costs.passes_per_run", cost.passes_per_run()));
  }
  return CheckMetrics("result.final_metrics", result.final_metrics());
}

absl::Status CheckCheckpoint(const AttemptKey& attempt,
                             const v1::CheckpointAnnouncement& checkpoint) {
  NORMLAB_RETURN_IF_ERROR(CheckCount("checkpoint.step", checkpoint.step()));
  NORMLAB_RETURN_IF_ERROR(CheckCount("checkpoint.bytes", checkpoint.bytes(), kMaxFileBytes));
  NORMLAB_RETURN_IF_ERROR(CheckAmount("checkpoint.seconds", checkpoint.seconds()));
  // A later attempt reads it with this server's word that it is this job's.
  if (!IsBelowAttempt(attempt, checkpoint.folder())) {
    return InvalidReport(absl::StrCat("a checkpoint at step ", checkpoint.step(), " in folder ",
                                      QuotedForMessage(checkpoint.folder()),
                                      ", which must lie below ",
                                      AttemptFolder(attempt.job_id, attempt.number)));
  }
  return CheckArtifactFiles(attempt, checkpoint.files());
}

}  // namespace

absl::Status CheckReport(const AttemptKey& attempt, const v1::WorkerReport& report) {
  if (report.number() < 1) {
    return InvalidReport(absl::StrCat("report number ", report.number(), " (they start at 1)"));
  }
  for (const v1::Series& series : report.new_series()) {
    if (series.name().empty() || series.name().size() > kMaxSeriesNameBytes) {
      return InvalidReport(absl::StrCat("a series name of ", series.name().size(), " bytes"));
    }
  }
  for (const v1::Segment& segment : report.segments()) {
    switch (segment.kind_case()) {
      case v1::Segment::kMetrics:
        NORMLAB_RETURN_IF_ERROR(CheckBlock(segment.metrics()));
        break;
      case v1::Segment::kLog:
        break;
      default:
        return InvalidReport("a segment that is neither metrics nor a log line");
    }
  }
  NORMLAB_RETURN_IF_ERROR(CheckCount("examples", report.examples()));
  for (const float seconds : report.step_seconds()) {
    NORMLAB_RETURN_IF_ERROR(CheckAmount("a step's duration", seconds));
  }
  NORMLAB_RETURN_IF_ERROR(CheckProgress(report.progress()));
  if (report.has_checkpoint()) {
    NORMLAB_RETURN_IF_ERROR(CheckCheckpoint(attempt, report.checkpoint()));
  }
  if (report.has_outcome()) {
    NORMLAB_RETURN_IF_ERROR(CheckResult(report.outcome().result()));
    NORMLAB_RETURN_IF_ERROR(CheckArtifactFiles(attempt, report.outcome().files()));
  }
  return absl::OkStatus();
}

}  // namespace normlab::server
