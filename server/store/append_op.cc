#include <utility>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/states.h"
#include "server/domain/transitions.h"
#include "server/store/job_rows.h"
#include "server/store/replay.h"
#include "server/store/report.h"
#include "server/store/write_op.h"

namespace normlab::server {
namespace {

class AppendOp : public WriteOp {
 public:
  AppendOp(AttemptKey attempt,
           v1::WorkerReport report,
           absl::AnyInvocable<void(absl::StatusOr<Store::AppendResult>) &&> done)
      : attempt_(std::move(attempt)), report_(std::move(report)), done_(std::move(done)) {}

  absl::Status Apply(WriteContext& context, Effects& effects) override {
    result_ = {};
    NORMLAB_RETURN_IF_ERROR(CheckReport(report_));
    NORMLAB_ASSIGN_OR_RETURN(LiveJob * live,
                             context.live_jobs.Get(context.connection, attempt_.job_id));
    if (const absl::Status loaded = live->LoadAttempt(context.connection, attempt_.number);
        !loaded.ok()) {
      return absl::IsNotFound(loaded) ? AttemptSuperseded(live->job, attempt_.number) : loaded;
    }
    if (report_.number() <= live->secrets.last_report) {
      // Sent again because the acknowledgement was lost, perhaps after the attempt's end.
      return absl::OkStatus();
    }
    if (!IsCurrentAttempt(live->job, attempt_.number)) {
      return AttemptSuperseded(live->job, attempt_.number);
    }
    if (report_.number() != live->secrets.last_report + 1) {
      return ReportOutOfOrder(report_.number(), live->secrets.last_report + 1);
    }
    return StoreReport(context, *live, effects);
  }

  void Done(absl::Status status) override {
    if (status.ok()) {
      std::move(done_)(std::move(result_));
    } else {
      std::move(done_)(std::move(status));
    }
  }

  const std::string& job_id() const override { return attempt_.job_id; }

 private:
  absl::Status StoreReport(WriteContext& context, LiveJob& live, Effects& effects) {
    const absl::Time now = context.clock.Now();
    Connection& connection = context.connection;
    IngestedReport ingested;
    NORMLAB_RETURN_IF_ERROR(IngestSegments(report_, now, live, ingested));
    result_.points = ingested.points;
    v1::Job job = live.job;
    bool job_changed = false;
    if (report_.has_progress()) {
      *job.mutable_progress() = report_.progress();
    }
    NORMLAB_ASSIGN_OR_RETURN(
        const ReplayDifference difference,
        CompareReplay(connection, live.key, live.series, std::move(ingested.repeated)));
    v1::Attempt& attempt = *job.mutable_attempts()->rbegin();
    if (difference.mismatches > 0) {
      result_.mismatches = difference.mismatches;
      attempt.set_replay_mismatches(attempt.replay_mismatches() + difference.mismatches);
      job_changed = true;
      ingested.records.push_back(LogRecord(
          v1::LogLine::WARNING,
          absl::StrCat("attempt ", attempt_.number, " repeated ", difference.mismatches,
                       difference.mismatches == 1 ? " point" : " points",
                       " after its resume that differ from the stored ones (", difference.first,
                       "); the stored ones are kept. The run does not repeat itself bit for bit: "
                       "please report it with the spec and the kind of CPU"),
          attempt_.number, now));
    }
    if (report_.has_checkpoint()) {
      attempt.set_checkpoint_step(report_.checkpoint().step());
      live.secrets.checkpoint_folder = report_.checkpoint().folder();
      job_changed = true;
    }
    if (report_.has_outcome()) {
      NORMLAB_RETURN_IF_ERROR(
          FinishAttempt(job, attempt_.number, report_.outcome(), now, ingested.records));
      if (job.has_result()) {
        CompleteFinalMetrics(live, *job.mutable_result());
      }
      job_changed = true;
    }
    live.secrets.last_report = report_.number();
    WriteAttemptSecrets(connection, live.key, attempt_.number, live.secrets);
    for (const uint32_t local_id : ingested.new_attempt_series) {
      Query(connection,
            "INSERT INTO attempt_series(job_key, attempt, local_id, series_id) VALUES (?, ?, ?, ?)",
            live.key, attempt_.number, local_id, live.attempt_series[local_id])
          .Run();
    }
    for (SeriesTail& tail : live.series) {
      if (tail.changed) {
        WriteSeriesTail(connection, live.key, tail);
        tail.changed = false;
      }
    }
    NORMLAB_RETURN_IF_ERROR(CommitJob(context, live, std::move(job), std::move(ingested.records),
                                      job_changed, effects));
    result_.job_changed = job_changed;
    if (job_changed) {
      result_.job = live.job;
    }
    if (IsTerminal(live.job.state())) {
      context.live_jobs.Forget(attempt_.job_id);
    }
    return absl::OkStatus();
  }

  // An attempt that was resumed near the end may not have seen every series.
  static void CompleteFinalMetrics(const LiveJob& live, v1::Result& result) {
    for (const SeriesTail& tail : live.series) {
      if (tail.points > 0) {
        result.mutable_final_metrics()->insert({tail.series.name(), tail.last_value});
      }
    }
  }

  const AttemptKey attempt_;
  const v1::WorkerReport report_;
  absl::AnyInvocable<void(absl::StatusOr<Store::AppendResult>) &&> done_;
  Store::AppendResult result_;
};

}  // namespace

std::unique_ptr<WriteOp> MakeAppendOp(
    AttemptKey attempt,
    v1::WorkerReport report,
    absl::AnyInvocable<void(absl::StatusOr<Store::AppendResult>) &&> done) {
  return std::make_unique<AppendOp>(std::move(attempt), std::move(report), std::move(done));
}

}  // namespace normlab::server
