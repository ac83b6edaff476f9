// The end of a job of which something stored cannot be read any more.
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/names.h"
#include "server/domain/proto_time.h"
#include "server/domain/transitions.h"
#include "server/store/job_rows.h"
#include "server/store/write_op.h"

namespace normlab::server {
namespace {

// The job as far as its row can be decoded; what cannot is left out, and lost with the next write.
absl::StatusOr<LiveJob> ReadWhatIsLeft(Connection& connection, const std::string& job_id) {
  Query row(connection,
            "SELECT key, owner, state, create_time_us, experiment, summary, details FROM jobs "
            "WHERE id = ?",
            job_id);
  if (!row.Step()) {
    return JobNotFound(JobName(job_id));
  }
  LiveJob live;
  live.key = row.Int(0);
  live.id = job_id;
  if (v1::Job summary; ParseRow(connection, row.Bytes(5), summary).ok()) {
    live.job = std::move(summary);
  }
  // By its columns, which the indexes have.
  live.job.set_name(JobName(job_id));
  live.job.set_owner(row.Text(1));
  live.job.set_state(static_cast<v1::Job::State>(row.Int(2)));
  *live.job.mutable_create_time() = ToTimestamp(absl::FromUnixMicros(row.Int(3)));
  live.job.set_experiment(row.Text(4));
  if (v1::Job details; ParseRow(connection, row.Bytes(6), details).ok()) {
    live.job.MergeFrom(details);
  }
  Query progress(connection, "SELECT progress, last_sequence FROM progress WHERE job_key = ?",
                 live.key);
  if (!progress.Step()) {
    return CorruptDatabase(connection.path(), absl::StrCat(JobName(job_id), " has no progress"));
  }
  if (v1::Progress decoded; ParseRow(connection, progress.Bytes(0), decoded).ok()) {
    *live.job.mutable_progress() = std::move(decoded);
  }
  live.job.set_last_sequence(progress.Int(1));
  // None of its chunks are open here, so none is read to be merged: the last record goes into a chunk
  // of its own.
  return live;
}

class FailDamagedOp : public WriteOp {
 public:
  FailDamagedOp(std::string job_id, v1::Failure failure, Store::JobCallback done)
      : job_id_(std::move(job_id)), failure_(std::move(failure)), done_(std::move(done)) {}

  absl::Status Apply(WriteContext& context, Effects& effects) override {
    // What is held in memory would write more than this may touch.
    context.live_jobs.Forget(job_id_);
    NORMLAB_ASSIGN_OR_RETURN(LiveJob live, ReadWhatIsLeft(context.connection, job_id_));
    v1::Job job = live.job;
    std::vector<v1::Segment> records;
    NORMLAB_RETURN_IF_ERROR(FailDamaged(job, failure_, context.clock.Now(), records));
    NORMLAB_RETURN_IF_ERROR(CommitJob(context, live, std::move(job), std::move(records),
                                      /*job_changed=*/true, effects));
    result_ = live.job;
    return absl::OkStatus();
  }

  void Done(absl::Status status) override {
    AnswerWith(std::move(done_), std::move(status), std::move(result_));
  }

  const std::string& job_id() const override { return job_id_; }

 private:
  const std::string job_id_;
  const v1::Failure failure_;
  Store::JobCallback done_;
  v1::Job result_;
};

}  // namespace

std::unique_ptr<WriteOp> MakeFailDamagedOp(std::string job_id,
                                           v1::Failure failure,
                                           Store::JobCallback done) {
  return std::make_unique<FailDamagedOp>(std::move(job_id), std::move(failure), std::move(done));
}

}  // namespace normlab::server
