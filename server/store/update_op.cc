#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/states.h"
#include "server/store/experiment_rows.h"
#include "server/store/job_rows.h"
#include "server/store/write_op.h"

namespace normlab::server {
namespace {

class UpdateOp : public WriteOp {
 public:
  UpdateOp(std::string job_id,
           Store::Mutator mutate,
           std::optional<AttemptSecrets> secrets,
           Store::JobCallback done)
      : job_id_(std::move(job_id)),
        mutate_(std::move(mutate)),
        secrets_(std::move(secrets)),
        done_(std::move(done)) {}

  absl::Status Apply(WriteContext& context, Effects& effects) override {
    NORMLAB_ASSIGN_OR_RETURN(LiveJob * live, context.live_jobs.Get(context.connection, job_id_));
    v1::Job job = live->job;
    if (job.state() == v1::Job::PAUSED && !job.experiment().empty() &&
        !ExperimentExists(context.connection, job.experiment())) {
      return JobNotFound(job.name());  // about to be deleted with its experiment
    }
    const int attempts_before = job.attempts_size();
    std::vector<v1::Segment> records;
    NORMLAB_RETURN_IF_ERROR(mutate_(job, records));
    for (const v1::Segment& record : records) {
      if (!record.has_state() && !record.has_log()) {
        return InternalError("a mutator may add state changes and log lines only");
      }
    }
    NORMLAB_RETURN_IF_ERROR(CommitJob(context, *live, std::move(job), std::move(records),
                                      /*job_changed=*/true, effects));
    if (secrets_.has_value() || live->job.attempts_size() > attempts_before) {
      NORMLAB_RETURN_IF_ERROR(StoreSecrets(context.connection, *live));
    }
    result_ = live->job;
    if (IsTerminal(result_.state())) {
      context.live_jobs.Forget(job_id_);
    }
    return absl::OkStatus();
  }

  void Done(absl::Status status) override {
    AnswerWith(std::move(done_), std::move(status), std::move(result_));
  }

  const std::string& job_id() const override { return job_id_; }

 private:
  absl::Status StoreSecrets(Connection& connection, LiveJob& live) {
    if (live.job.attempts().empty()) {
      return InternalError(absl::StrCat("secrets for ", live.job.name(), ", which has no attempt"));
    }
    const int32_t number = live.job.attempts().rbegin()->number();
    AttemptSecrets stored;
    if (const absl::Status loaded = live.LoadAttempt(connection, number); loaded.ok()) {
      stored = live.secrets;
    } else if (!absl::IsNotFound(loaded)) {
      return loaded;
    }
    // What reports have brought since the caller looked must not be undone.
    if (secrets_.has_value() && !secrets_->secret_sha256.empty()) {
      stored.secret_sha256 = secrets_->secret_sha256;
    }
    if (secrets_.has_value() && !secrets_->process_identity.empty()) {
      stored.process_identity = secrets_->process_identity;
    }
    WriteAttemptSecrets(connection, live.key, number, stored);
    live.attempt = 0;
    return live.LoadAttempt(connection, number);
  }

  const std::string job_id_;
  const Store::Mutator mutate_;
  const std::optional<AttemptSecrets> secrets_;
  Store::JobCallback done_;
  v1::Job result_;
};

}  // namespace

std::unique_ptr<WriteOp> MakeUpdateOp(std::string job_id,
                                      Store::Mutator mutate,
                                      std::optional<AttemptSecrets> secrets,
                                      Store::JobCallback done) {
  return std::make_unique<UpdateOp>(std::move(job_id), std::move(mutate), std::move(secrets),
                                    std::move(done));
}

}  // namespace normlab::server
