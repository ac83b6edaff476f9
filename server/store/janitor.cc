#include "server/store/janitor.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "common/status_macros.h"
#include "server/domain/errors.h"
#include "server/store/deletion.h"
#include "server/store/job_files.h"
#include "server/store/job_rows.h"

namespace normlab::server {
namespace {

constexpr absl::Duration kEvery = absl::Minutes(1);

}  // namespace

Janitor::Janitor(JanitorOptions options, ReadPool& reads)
    : options_(std::move(options)), reads_(reads), wall_clock_(*options_.clock) {}

void Janitor::Start() {
  thread_ = std::thread([this] { Run(); });
}

void Janitor::Stop() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    woken_.NotifyAll();
  }
  if (thread_.joinable()) {
    thread_.join();
  }
}

void Janitor::Wake() {
  absl::MutexLock lock(&mu_);
  wake_ = true;
  woken_.NotifyAll();
}

void Janitor::RemoveCheckpoints(const absl::flat_hash_map<std::string, int32_t>& before_attempts) {
  if (options_.work_dir.empty()) {
    return;
  }
  absl::MutexLock lock(&mu_);
  for (const auto& [job_id, attempt] : before_attempts) {
    int32_t& before = superseded_[job_id];
    before = std::max(before, attempt);
  }
  wake_ = true;
  woken_.NotifyAll();
}

bool Janitor::stopping() const {
  absl::MutexLock lock(&mu_);
  return stopping_;
}

void Janitor::Run() {
  while (!stopping()) {
    // What fails is tried again in a minute; the store's health says why it failed.
    RunOnce().IgnoreError();
    absl::MutexLock lock(&mu_);
    woken_.WaitFor(mu_, kEvery,
                   [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return wake_ || stopping_; });
    wake_ = false;
  }
}

absl::StatusOr<bool> Janitor::Commit(
    std::function<absl::StatusOr<bool>(WriteContext&, Effects&)> change) {
  struct Waiting {
    absl::Mutex mu;
    bool more = false;  // the writer's until answered
    absl::Status status ABSL_GUARDED_BY(mu);
    bool answered ABSL_GUARDED_BY(mu) = false;
  };
  auto waiting = std::make_shared<Waiting>();
  options_.submit(MakeFunctionOp(
      [waiting, change = std::move(change)](WriteContext& context,
                                            Effects& effects) -> absl::Status {
        NORMLAB_ASSIGN_OR_RETURN(waiting->more, change(context, effects));
        return absl::OkStatus();
      },
      [waiting](absl::Status status) {
        absl::MutexLock lock(&waiting->mu);
        waiting->status = std::move(status);
        waiting->answered = true;
      }));
  absl::MutexLock lock(&waiting->mu);
  waiting->mu.Await(absl::Condition(&waiting->answered));
  NORMLAB_RETURN_IF_ERROR(waiting->status);
  return waiting->more;
}

absl::Status Janitor::CommitAll(
    std::function<absl::StatusOr<bool>(WriteContext&, Effects&)> change) {
  bool more = true;
  while (more) {
    if (stopping()) {
      return ShuttingDown(absl::Seconds(1));
    }
    NORMLAB_ASSIGN_OR_RETURN(more, Commit(change));
  }
  return absl::OkStatus();
}

absl::Status Janitor::RunOnce() {
  absl::MutexLock run_lock(&run_mu_);
  if (stopping()) {
    return ShuttingDown(absl::Seconds(1));
  }
  // Whether it works or not, the rest is done as well.
  absl::Status checkpoints = RemoveSupersededCheckpoints();
  const absl::Time requests_before = options_.clock->Now() - kRequestLifetime;
  std::optional<absl::Time> ended_before;
  const bool ages_are_right = wall_clock_.IsTrusted();
  if (options_.retention != absl::InfiniteDuration() && ages_are_right) {
    ended_before = options_.clock->Now() - options_.retention;
  }
  // A look first, so that an idle store commits nothing.
  NORMLAB_ASSIGN_OR_RETURN(const Housekeeping work,
                           reads_.Read([&](Connection& connection) -> absl::StatusOr<Housekeeping> {
                             return FindHousekeeping(connection, requests_before, ended_before);
                           }));
  if (work.requests && ages_are_right) {
    NORMLAB_RETURN_IF_ERROR(
        CommitAll([requests_before](WriteContext& context, Effects&) -> absl::StatusOr<bool> {
          return ForgetRequests(context.connection, requests_before);
        }));
  }
  if (work.expired_jobs) {
    NORMLAB_RETURN_IF_ERROR(
        CommitAll([ended_before](WriteContext& context, Effects& effects) -> absl::StatusOr<bool> {
          return MarkExpired(context, *ended_before, effects);
        }));
  }
  if (work.empty_experiments || work.expired_jobs) {
    // After the jobs: the last one of an experiment may just have gone.
    NORMLAB_RETURN_IF_ERROR(
        CommitAll([ended_before](WriteContext& context, Effects&) -> absl::StatusOr<bool> {
          return DeleteEmptyExperiments(context, *ended_before);
        }));
  }
  if (work.experiment_deletions) {
    NORMLAB_RETURN_IF_ERROR(MarkJobsOfExperiments());
  }
  const bool remains = work.deletions || work.expired_jobs || work.experiment_deletions;
  if (remains) {
    NORMLAB_RETURN_IF_ERROR(RemoveRemains());
  }
  if (work.unused_pages || remains) {
    NORMLAB_RETURN_IF_ERROR(CommitAll([](WriteContext& context, Effects&) -> absl::StatusOr<bool> {
      return ShrinkFile(context.connection);
    }));
  }
  return checkpoints;
}

absl::Status Janitor::RemoveSupersededCheckpoints() {
  absl::flat_hash_map<std::string, int32_t> superseded;
  {
    absl::MutexLock lock(&mu_);
    superseded.swap(superseded_);
  }
  absl::Status first_failure;
  for (const auto& [job_id, before] : superseded) {
    // What cannot be removed costs room only, and is tried again with the next checkpoint.
    first_failure.Update(RemoveCheckpointFolders(options_.work_dir, job_id, before));
  }
  return first_failure;
}

absl::Status Janitor::MarkJobsOfExperiments() {
  NORMLAB_ASSIGN_OR_RETURN(
      const std::vector<std::string> names,
      reads_.Read([](Connection& connection) -> absl::StatusOr<std::vector<std::string>> {
        return PendingExperimentDeletions(connection);
      }));
  for (const std::string& name : names) {
    NORMLAB_RETURN_IF_ERROR(
        CommitAll([name](WriteContext& context, Effects& effects) -> absl::StatusOr<bool> {
          return MarkJobsOfExperiment(context, name, effects);
        }));
  }
  return absl::OkStatus();
}

absl::Status Janitor::RemoveRemains() {
  NORMLAB_ASSIGN_OR_RETURN(
      const std::vector<Deletion> pending,
      reads_.Read([](Connection& connection) -> absl::StatusOr<std::vector<Deletion>> {
        return PendingDeletions(connection);
      }));
  absl::Status first_failure;
  for (const Deletion& deletion : pending) {
    NORMLAB_RETURN_IF_ERROR(CommitAll(
        [key = deletion.job_key](WriteContext& context, Effects&) -> absl::StatusOr<bool> {
          return DeleteSlice(context.connection, key);
        }));
    const absl::Status files = options_.work_dir.empty()
                                   ? absl::OkStatus()
                                   : RemoveJobFiles(options_.work_dir, deletion.job_id);
    if (!files.ok()) {
      // One folder that cannot be removed does not keep the others.
      first_failure.Update(files);
      continue;
    }
    NORMLAB_RETURN_IF_ERROR(
        Commit([key = deletion.job_key](WriteContext& context, Effects&) -> absl::StatusOr<bool> {
          FinishDeletion(context.connection, key);
          return false;
        }).status());
  }
  return first_failure;
}

}  // namespace normlab::server
