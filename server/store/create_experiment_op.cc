#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "server/domain/errors.h"
#include "server/domain/names.h"
#include "server/domain/proto_time.h"
#include "server/domain/transitions.h"
#include "server/store/experiment_rows.h"
#include "server/store/job_rows.h"
#include "server/store/record_log.h"
#include "server/store/segments.h"
#include "server/store/write_op.h"

namespace normlab::server {
namespace {

// Rows are made here, on the thread that submits: the writer binds them and nothing else, some
// twenty microseconds a job.
class CreateExperimentOp : public WriteOp {
 public:
  CreateExperimentOp(v1::Experiment experiment,
                     size_t jobs,
                     ExperimentStore::JobMaker make_job,
                     std::string request_id,
                     std::string request_sha256,
                     absl::Time now,
                     ExperimentStore::CreateCallback done)
      : experiment_(std::move(experiment)),
        request_id_(std::move(request_id)),
        request_sha256_(std::move(request_sha256)),
        done_(std::move(done)) {
    *experiment_.mutable_create_time() = ToTimestamp(now);
    head_.owner = experiment_.owner();
    head_.create_time_us = absl::ToUnixMicros(now);
    head_.jobs = static_cast<int64_t>(jobs);
    refusal_ = MakeRows(jobs, make_job, now);
    experiment_.mutable_counts()->set_queued(static_cast<int32_t>(jobs));
    for (v1::Cell& cell : *experiment_.mutable_cells()) {
      cell.mutable_counts()->set_queued(cell.jobs_size());
    }
  }

  absl::Status Apply(WriteContext& context, Effects& effects) override {
    NORMLAB_RETURN_IF_ERROR(refusal_);
    Connection& connection = context.connection;
    NORMLAB_ASSIGN_OR_RETURN(const bool answered,
                             AnswerEarlierRequest(connection, context.clock.Now()));
    if (answered) {
      return absl::OkStatus();
    }
    ExperimentHead head = head_;
    for (size_t i = 0; i < rows_.size(); ++i) {
      const JobRow& row = rows_[i];
      if (Query(connection, "SELECT 1 FROM jobs WHERE id = ?", row.id).Step()) {
        return JobIdTaken(JobName(row.id));
      }
      const int64_t key = InsertJobRow(connection, row);
      head.first_job_key = i == 0 ? key : head.first_job_key;
      if (key != head.first_job_key + static_cast<int64_t>(i)) {
        return InternalError("the jobs of an experiment did not get consecutive keys");
      }
      InsertFirstRecords(connection, key, first_records_, first_payload_);
      effects.published[row.id] = {row.last_sequence, /*terminal=*/false};
    }
    InsertExperiment(connection, head, experiment_);
    if (!request_id_.empty()) {
      RememberExperimentRequest(connection, head, request_id_, request_sha256_);
    }
    effects.state_deltas[{head.owner, static_cast<int>(v1::Job::QUEUED)}] += head.jobs;
    created_ = true;
    return absl::OkStatus();
  }

  void Done(absl::Status status) override {
    if (!status.ok()) {
      std::move(done_)(std::move(status));
    } else if (created_) {
      std::move(done_)(ExperimentStore::CreateResult{std::move(experiment_), /*created=*/true});
    } else {
      std::move(done_)(ExperimentStore::CreateResult{std::move(earlier_), /*created=*/false});
    }
  }

  const std::string& job_id() const override { return no_job_; }

 private:
  absl::Status MakeRows(size_t jobs, ExperimentStore::JobMaker make_job, absl::Time now) {
    NORMLAB_ASSIGN_OR_RETURN(head_.id, ParseExperimentName(experiment_.name(), "experiment.name"));
    rows_.reserve(jobs);
    for (size_t position = 0; position < jobs; ++position) {
      v1::Job job = make_job(position);
      NORMLAB_ASSIGN_OR_RETURN(const std::string id, ParseJobName(job.name(), "job.name"));
      // A microsecond apart, so that lists and queue keep the order of the design.
      *job.mutable_create_time() =
          ToTimestamp(now + absl::Microseconds(static_cast<int64_t>(rows_.size())));
      std::vector<v1::Segment> records;
      InitializeQueued(job, now, records);
      if (rows_.empty()) {
        // The same for all: the news of being queued, now.
        std::vector<v1::RecordBatch> batches = Pack(std::move(records), 1, kChunkBytes);
        if (batches.size() != 1) {
          return InternalError("a new job's first records do not fit into one chunk");
        }
        first_records_ = std::move(batches[0]);
        first_payload_ = first_records_.SerializeAsString();
      }
      job.set_last_sequence(RecordCount(first_records_));
      rows_.push_back(MakeJobRow(id, job));
    }
    return absl::OkStatus();
  }

  // Whether the same request was answered before; then `earlier_` is that answer.
  absl::StatusOr<bool> AnswerEarlierRequest(Connection& connection, absl::Time now) {
    if (request_id_.empty()) {
      return false;
    }
    NORMLAB_ASSIGN_OR_RETURN(
        std::optional<v1::Experiment> earlier,
        FindRequestedExperiment(connection, head_.owner, request_id_, request_sha256_, now));
    if (earlier.has_value()) {
      earlier_ = *std::move(earlier);
    }
    return earlier.has_value();
  }

  v1::Experiment experiment_;
  const std::string request_id_;
  const std::string request_sha256_;
  ExperimentStore::CreateCallback done_;
  const std::string no_job_;
  absl::Status refusal_;
  ExperimentHead head_;  // but for the keys
  std::vector<JobRow> rows_;
  v1::RecordBatch first_records_;
  std::string first_payload_;
  bool created_ = false;
  v1::Experiment earlier_;
};

}  // namespace

std::unique_ptr<WriteOp> MakeCreateExperimentOp(v1::Experiment experiment,
                                                size_t jobs,
                                                ExperimentStore::JobMaker make_job,
                                                std::string request_id,
                                                std::string request_sha256,
                                                absl::Time now,
                                                ExperimentStore::CreateCallback done) {
  return std::make_unique<CreateExperimentOp>(std::move(experiment), jobs, make_job,
                                              std::move(request_id), std::move(request_sha256), now,
                                              std::move(done));
}

}  // namespace normlab::server
