#include "server/store/sqlite_experiments.h"

#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

#include "common/status_macros.h"
#include "server/domain/experiment_errors.h"
#include "server/domain/names.h"
#include "server/store/and_wait.h"
#include "server/store/deletion.h"
#include "server/store/experiment_rows.h"

namespace normlab::server {
namespace {

using DeleteCallback = absl::AnyInvocable<void(absl::Status) &&>;

// Takes the jobs of an experiment that is gone away, slice after slice, each a commit of its own
// that asks for the next one when it is done. The janitor does the same should this end early.
void DeleteJobs(const SqliteExperiments::Submit& submit, std::string name, DeleteCallback done) {
  auto more = std::make_shared<bool>(true);  // the writer's
  submit(MakeFunctionOp(
      [name, more](WriteContext& context, Effects& effects) {
        *more = MarkJobsOfExperiment(context, name, effects);
        return absl::OkStatus();
      },
      [submit, name, more, done = std::move(done)](absl::Status status) mutable {
        if (status.ok() && *more) {
          DeleteJobs(submit, std::move(name), std::move(done));
        } else {
          std::move(done)(std::move(status));
        }
      }));
}

}  // namespace

SqliteExperiments::SqliteExperiments(ReadPool& reads, Submit submit, const common::Clock& clock)
    : reads_(reads), submit_(std::move(submit)), clock_(clock) {}

void SqliteExperiments::Create(v1::Experiment experiment,
                               size_t jobs,
                               JobMaker make_job,
                               std::string request_id,
                               std::string request_sha256,
                               CreateCallback done) {
  submit_(MakeCreateExperimentOp(std::move(experiment), jobs, make_job, std::move(request_id),
                                 std::move(request_sha256), clock_.Now(), std::move(done)));
}

absl::StatusOr<std::optional<v1::Experiment>> SqliteExperiments::FindRequest(
    const std::string& owner, const std::string& request_id, const std::string& request_sha256) {
  return reads_.Read([&](Connection& connection) -> absl::StatusOr<std::optional<v1::Experiment>> {
    ReadTransaction transaction(connection);
    return FindRequestedExperiment(connection, owner, request_id, request_sha256, clock_.Now());
  });
}

void SqliteExperiments::Delete(std::string id, DeleteCallback done) {
  const std::string name = ExperimentName(id);
  submit_(MakeFunctionOp(
      [id = std::move(id), name](WriteContext& context, Effects& effects) -> absl::Status {
        NORMLAB_ASSIGN_OR_RETURN(const ExperimentHead head,
                                 ReadExperimentHead(context.connection, id));
        if (const int64_t unfinished = CountUnfinished(context.connection, name); unfinished > 0) {
          return ExperimentNotDeletable(name, unfinished);
        }
        MarkExperimentDeleted(context, head.key, name, effects);
        return absl::OkStatus();
      },
      [submit = submit_, name, done = std::move(done)](absl::Status status) mutable {
        if (status.ok()) {
          DeleteJobs(submit, std::move(name), std::move(done));
        } else {
          std::move(done)(std::move(status));
        }
      }));
}

absl::StatusOr<StoredExperiment> SqliteExperiments::Get(const std::string& id, Parts parts) {
  return reads_.Read([&](Connection& connection) -> absl::StatusOr<StoredExperiment> {
    ReadTransaction transaction(connection);
    NORMLAB_ASSIGN_OR_RETURN(const ExperimentHead head, ReadExperimentHead(connection, id));
    return ReadExperiment(connection, head, parts);
  });
}

absl::StatusOr<std::vector<v1::Job::State>> SqliteExperiments::GetStates(const std::string& id) {
  return reads_.Read([&](Connection& connection) -> absl::StatusOr<std::vector<v1::Job::State>> {
    ReadTransaction transaction(connection);
    NORMLAB_ASSIGN_OR_RETURN(const ExperimentHead head, ReadExperimentHead(connection, id));
    return ReadJobStates(connection, head);
  });
}

absl::StatusOr<std::string> SqliteExperiments::GetOwner(const std::string& id) {
  return reads_.Read([&](Connection& connection) -> absl::StatusOr<std::string> {
    NORMLAB_ASSIGN_OR_RETURN(ExperimentHead head, ReadExperimentHead(connection, id));
    return std::move(head.owner);
  });
}

absl::StatusOr<ExperimentPage> SqliteExperiments::List(const std::optional<std::string>& owner,
                                                       int page_size,
                                                       const std::string& page_token) {
  return reads_.Read([&](Connection& connection) -> absl::StatusOr<ExperimentPage> {
    ReadTransaction transaction(connection);
    return ListExperimentPage(connection, owner, page_size, page_token);
  });
}

absl::StatusOr<std::vector<ExperimentResult>> SqliteExperiments::ReadResults(
    const std::string& id,
    const std::vector<std::string>& series,
    int64_t from_position,
    int limit) {
  return reads_.Read([&](Connection& connection) -> absl::StatusOr<std::vector<ExperimentResult>> {
    ReadTransaction transaction(connection);
    NORMLAB_ASSIGN_OR_RETURN(const ExperimentHead head, ReadExperimentHead(connection, id));
    return ReadExperimentResults(connection, head, series, from_position, limit);
  });
}

absl::Status ExperimentStore::DeleteAndWait(std::string id) {
  return AnswerOf<absl::Status>(
      [&](DeleteCallback done) { Delete(std::move(id), std::move(done)); });
}

}  // namespace normlab::server
