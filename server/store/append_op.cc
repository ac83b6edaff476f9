#include <utility>

#include "absl/strings/str_cat.h"

#include "common/series_name.h"
#include "common/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/states.h"
#include "server/domain/transitions.h"
#include "server/store/artifact_rows.h"
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
    NORMLAB_RETURN_IF_ERROR(CheckReport(attempt_, report_));
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
    AnswerWith(std::move(done_), std::move(status), std::move(result_));
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
    NORMLAB_ASSIGN_OR_RETURN(
        const int64_t left_out,
        CountLeftOut(connection, live.key, attempt.start_step(), ingested.caught_up));
    if (difference.mismatches + left_out > 0) {
      result_.mismatches = difference.mismatches + left_out;
      // Once an attempt: a run that differs at all usually differs at every step.
      if (attempt.replay_mismatches() == 0) {
        ingested.records.push_back(ReplayWarning(difference, left_out, now));
      }
      attempt.set_replay_mismatches(attempt.replay_mismatches() + result_.mismatches);
      job_changed = true;
    }
    if (report_.has_checkpoint()) {
      const v1::CheckpointAnnouncement& checkpoint = report_.checkpoint();
      attempt.set_checkpoint_step(checkpoint.step());
      live.secrets.checkpoint_folder = checkpoint.folder();
      job.set_artifact_bytes(WriteArtifacts(connection, live.key, attempt_.number,
                                            checkpoint.step(), /*final=*/false, checkpoint.files(),
                                            now));
      if (attempt_.number > 1) {
        effects.superseded[attempt_.job_id] = attempt_.number;
      }
      job_changed = true;
    }
    if (report_.has_outcome()) {
      NORMLAB_RETURN_IF_ERROR(
          FinishAttempt(job, attempt_.number, report_.outcome(), now, ingested.records));
      if (job.has_result()) {
        CompleteFinalMetrics(live, *job.mutable_result());
      }
      if (!report_.outcome().files().empty()) {
        job.set_artifact_bytes(WriteArtifacts(connection, live.key, attempt_.number,
                                              report_.outcome().result().steps(), /*final=*/true,
                                              report_.outcome().files(), now));
      }
      job_changed = true;
    }
    live.secrets.last_report = report_.number();
    WriteAttemptSecrets(connection, live.key, attempt_.number, live.secrets);
    for (auto& [local_id, series] : live.attempt_series) {
      if (series.changed) {
        Query(connection,
              "INSERT OR REPLACE INTO attempt_series(job_key, attempt, local_id, series_id, "
              "repeated) VALUES (?, ?, ?, ?, ?)",
              live.key, attempt_.number, local_id, series.series, series.repeated)
            .Run();
        series.changed = false;
      }
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

  v1::Segment ReplayWarning(const ReplayDifference& difference,
                            int64_t left_out,
                            absl::Time now) const {
    std::string what;
    if (difference.mismatches > 0) {
      absl::StrAppend(&what, "repeated ", difference.mismatches,
                      difference.mismatches == 1 ? " point" : " points",
                      " after its resume that differ from the stored ones (", difference.first,
                      ")");
    }
    if (left_out > 0) {
      absl::StrAppend(&what, what.empty() ? "" : " and ", "left out ", left_out,
                      left_out == 1 ? " stored point" : " stored points",
                      " that it should have repeated");
    }
    return LogRecord(
        v1::LogLine::WARNING,
        absl::StrCat("attempt ", attempt_.number, " ", what,
                     "; the stored ones are kept. The run does not repeat itself bit for bit: "
                     "please report it with the spec and the kind of CPU. Further differences are "
                     "counted as replay_mismatches of the attempt"),
        attempt_.number, now);
  }

  // An attempt that was resumed near the end may not have seen every series.
  static void CompleteFinalMetrics(const LiveJob& live, v1::Result& result) {
    for (const SeriesTail& tail : live.series) {
      if (tail.points > 0 && !common::IsDetailSeries(tail.series.name())) {
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
