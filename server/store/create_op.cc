#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/names.h"
#include "server/domain/transitions.h"
#include "server/store/job_rows.h"
#include "server/store/record_log.h"
#include "server/store/write_op.h"

namespace normlab::server {
namespace {

class CreateOp : public WriteOp {
 public:
  CreateOp(v1::Job job,
           std::string request_id,
           std::string request_sha256,
           absl::AnyInvocable<void(absl::StatusOr<Store::CreateResult>) &&> done)
      : job_(std::move(job)),
        request_id_(std::move(request_id)),
        request_sha256_(std::move(request_sha256)),
        done_(std::move(done)) {
    if (absl::StatusOr<std::string> id = ParseJobName(job_.name(), "job.name"); id.ok()) {
      job_id_ = *std::move(id);
    }
  }

  absl::Status Apply(WriteContext& context, Effects& effects) override {
    NORMLAB_RETURN_IF_ERROR(ParseJobName(job_.name(), "job.name").status());
    Connection& connection = context.connection;
    const absl::Time now = context.clock.Now();
    NORMLAB_ASSIGN_OR_RETURN(const bool answered, AnswerEarlierRequest(connection, now));
    if (answered) {
      return absl::OkStatus();
    }
    if (Query(connection, "SELECT 1 FROM jobs WHERE id = ?", job_id_).Step()) {
      return JobIdTaken(job_.name());
    }
    v1::Job job = job_;
    std::vector<v1::Segment> records;
    InitializeQueued(job, now, records);
    LiveJob live;
    live.id = job_id_;
    live.key = InsertJob(connection, job_id_, job);
    live.job = std::move(job);
    NORMLAB_RETURN_IF_ERROR(AppendRecords(connection, live, std::move(records), /*seal=*/false));
    WriteProgress(connection, live.key, live.job);
    if (!request_id_.empty()) {
      // One that is older than it counts may be there still.
      Query(connection,
            "INSERT OR REPLACE INTO requests(owner, request_id, body_sha256, job_key, "
            "create_time_us) VALUES (?, ?, ?, ?, ?)",
            live.job.owner(), request_id_, Blob{request_sha256_}, live.key, absl::ToUnixMicros(now))
          .Run();
    }
    ++effects.state_deltas[{live.job.owner(), static_cast<int>(live.job.state())}];
    effects.published[job_id_] = {live.job.last_sequence(), false};
    result_ = Store::CreateResult{std::move(live.job), /*created=*/true};
    return absl::OkStatus();
  }

  void Done(absl::Status status) override {
    AnswerWith(std::move(done_), std::move(status), std::move(result_));
  }

  const std::string& job_id() const override { return job_id_; }

 private:
  // Whether the same request was answered before; then the result is that answer's job.
  absl::StatusOr<bool> AnswerEarlierRequest(Connection& connection, absl::Time now) {
    if (request_id_.empty()) {
      return false;
    }
    NORMLAB_ASSIGN_OR_RETURN(
        std::optional<v1::Job> earlier,
        FindRequestedJob(connection, job_.owner(), request_id_, request_sha256_, now));
    if (!earlier.has_value()) {
      return false;
    }
    result_ = Store::CreateResult{*std::move(earlier), /*created=*/false};
    return true;
  }

  const v1::Job job_;
  const std::string request_id_;
  const std::string request_sha256_;
  absl::AnyInvocable<void(absl::StatusOr<Store::CreateResult>) &&> done_;
  std::string job_id_;
  Store::CreateResult result_;
};

}  // namespace

std::unique_ptr<WriteOp> MakeCreateOp(
    v1::Job job,
    std::string request_id,
    std::string request_sha256,
    absl::AnyInvocable<void(absl::StatusOr<Store::CreateResult>) &&> done) {
  return std::make_unique<CreateOp>(std::move(job), std::move(request_id),
                                    std::move(request_sha256), std::move(done));
}

}  // namespace normlab::server
