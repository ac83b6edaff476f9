#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"

#include "common/clock.h"
#include "server/store/connection.h"
#include "server/store/job_counts.h"
#include "server/store/live_job.h"
#include "server/store/store.h"

#include "normlab/v1/job.pb.h"

namespace normlab::server {

// What a committed operation means outside the database.
struct Effects {
  struct Publication {
    int64_t last_sequence = 0;
    bool terminal = false;
  };
  absl::flat_hash_map<std::string, Publication> published;  // by job id, or experiment name
  JobCounts state_deltas;                                   // jobs more or fewer
  bool deleted_job = false;                                 // there are remains to be removed
  // Jobs of which checkpoints of attempts before this one are not needed any more.
  absl::flat_hash_map<std::string, int32_t> superseded;

  void Merge(const Effects& other);
};

struct WriteContext {
  Connection& connection;
  LiveJobs& live_jobs;
  const common::Clock& clock;
};

// One queued change. Runs on the writer thread only.
class WriteOp {
 public:
  virtual ~WriteOp() = default;

  // Makes the change inside the writer's transaction, in a savepoint of its own. A non-OK status
  // refuses it, and only it. May throw SQLite::Exception, which fails the whole transaction. May be
  // called again then.
  virtual absl::Status Apply(WriteContext& context, Effects& effects) = 0;
  // Answers the caller: after the commit, or with the reason why nothing was stored.
  virtual void Done(absl::Status status) = 0;
  // The job whose cached state is void when this is refused; empty: none.
  virtual const std::string& job_id() const = 0;
};

std::unique_ptr<WriteOp> MakeCreateOp(
    v1::Job job,
    std::string request_id,
    std::string request_sha256,
    absl::AnyInvocable<void(absl::StatusOr<Store::CreateResult>) &&> done);

std::unique_ptr<WriteOp> MakeUpdateOp(std::string job_id,
                                      Store::Mutator mutate,
                                      std::optional<AttemptSecrets> secrets,
                                      Store::JobCallback done);

std::unique_ptr<WriteOp> MakeAppendOp(
    AttemptKey attempt,
    v1::WorkerReport report,
    absl::AnyInvocable<void(absl::StatusOr<Store::AppendResult>) &&> done);

// Ends a job of which something cannot be read; touches as little of what is stored as possible.
std::unique_ptr<WriteOp> MakeFailDamagedOp(std::string job_id,
                                           v1::Failure failure,
                                           Store::JobCallback done);

std::unique_ptr<WriteOp> MakeDeleteOp(std::string job_id,
                                      absl::AnyInvocable<void(absl::Status) &&> done);

std::unique_ptr<WriteOp> MakeCreateExperimentOp(v1::Experiment experiment,
                                                size_t jobs,
                                                ExperimentStore::JobMaker make_job,
                                                std::string request_id,
                                                std::string request_sha256,
                                                absl::Time now,
                                                ExperimentStore::CreateCallback done);

// A change that concerns no cached job. `change` is called as Apply is.
std::unique_ptr<WriteOp> MakeFunctionOp(std::function<absl::Status(WriteContext&, Effects&)> change,
                                        absl::AnyInvocable<void(absl::Status) &&> done);

// Answers with the result if the status is OK, with the status otherwise.
template <typename Callback, typename Result>
void AnswerWith(Callback done, absl::Status status, Result result) {
  if (status.ok()) {
    std::move(done)(std::move(result));
  } else {
    std::move(done)(std::move(status));
  }
}

// Stores a changed job with the records that tell of it: rows, labels, chunks, and what follows
// from a change of state. For the operations. FAILED_PRECONDITION, INTERNAL.
absl::Status CommitJob(WriteContext& context,
                       LiveJob& live,
                       v1::Job job,
                       std::vector<v1::Segment> records,
                       bool job_changed,
                       Effects& effects);

}  // namespace normlab::server
