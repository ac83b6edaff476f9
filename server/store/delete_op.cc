#include <utility>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/states.h"
#include "server/store/deletion.h"
#include "server/store/job_rows.h"
#include "server/store/write_op.h"

namespace normlab::server {
namespace {

class DeleteOp : public WriteOp {
 public:
  DeleteOp(std::string job_id, absl::AnyInvocable<void(absl::Status) &&> done)
      : job_id_(std::move(job_id)), done_(std::move(done)) {}

  absl::Status Apply(WriteContext& context, Effects& effects) override {
    NORMLAB_ASSIGN_OR_RETURN(const JobHead head, ReadJobHead(context.connection, job_id_));
    NORMLAB_ASSIGN_OR_RETURN(const v1::Job job,
                             ReadJobByKey(context.connection, head.key, JobParts::kSummary));
    if (!IsTerminal(job.state()) && job.state() != v1::Job::PAUSED) {
      return JobNotDeletable(job);
    }
    MarkDeleted(context, {head.key, job_id_, job.owner(), job.state(), job.experiment()}, effects);
    return absl::OkStatus();
  }

  void Done(absl::Status status) override { std::move(done_)(std::move(status)); }

  const std::string& job_id() const override { return job_id_; }

 private:
  const std::string job_id_;
  absl::AnyInvocable<void(absl::Status) &&> done_;
};

class FunctionOp : public WriteOp {
 public:
  FunctionOp(std::function<absl::Status(WriteContext&, Effects&)> change,
             absl::AnyInvocable<void(absl::Status) &&> done)
      : change_(std::move(change)), done_(std::move(done)) {}

  absl::Status Apply(WriteContext& context, Effects& effects) override {
    return change_(context, effects);
  }
  void Done(absl::Status status) override { std::move(done_)(std::move(status)); }
  const std::string& job_id() const override { return no_job_; }

 private:
  const std::function<absl::Status(WriteContext&, Effects&)> change_;
  absl::AnyInvocable<void(absl::Status) &&> done_;
  const std::string no_job_;
};

}  // namespace

std::unique_ptr<WriteOp> MakeDeleteOp(std::string job_id,
                                      absl::AnyInvocable<void(absl::Status) &&> done) {
  return std::make_unique<DeleteOp>(std::move(job_id), std::move(done));
}

std::unique_ptr<WriteOp> MakeFunctionOp(std::function<absl::Status(WriteContext&, Effects&)> change,
                                        absl::AnyInvocable<void(absl::Status) &&> done) {
  return std::make_unique<FunctionOp>(std::move(change), std::move(done));
}

}  // namespace normlab::server
