// The thread that runs sbatch and scancel.
#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/atomic_file.h"
#include "common/ids.h"
#include "common/status_macros.h"
#include "server/executor/local_process.h"
#include "server/executor/rank_launch.h"
#include "server/executor/slurm_executor_impl.h"

#include <spdlog/spdlog.h>

namespace normlab::server {
namespace {

// Of ids in one command.
constexpr size_t kMostIds = 200;

// Which attempts one array may have.
bool GoTogether(const SubmitRequest& a, const SubmitRequest& b) {
  return !a.group.empty() && a.group == b.group;
}

absl::Status MakeFolder(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  return error ? absl::UnavailableError(
                     absl::StrCat("cannot make the folder ", path, ": ", error.message()))
               : absl::OkStatus();
}

}  // namespace

void SlurmExecutor::HandOver() {
  while (true) {
    std::map<Key, AttemptSignal> signals;
    std::vector<Pending*> batch;
    {
      absl::MutexLock lock(&mu_);
      changed_.WaitFor(mu_, absl::InfiniteDuration(), [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
        return stopping_ || !order_.empty() || !signals_.empty();
      });
      if (stopping_) {
        return;
      }
      signals.swap(signals_);
      if (signals.empty()) {
        batch = TakeBatch();
      }
    }
    if (!signals.empty()) {
      SendSignals(signals);
    } else {
      SubmitBatch(batch);
    }
  }
}

std::vector<SlurmExecutor::Pending*> SlurmExecutor::TakeBatch() {
  std::vector<Pending*> batch;
  for (auto key = order_.begin(); key != order_.end() && batch.size() < most_together_;) {
    Pending& pending = pending_.at(*key);
    // Elements of a map stay where they are; this thread alone takes away those out of order_.
    const bool first = batch.empty();
    if (first || (GoTogether(batch.front()->request, pending.request) &&
                  batch.front()->shape == pending.shape)) {
      batch.push_back(&pending);
      key = order_.erase(key);
    } else {
      ++key;
    }
    if (first && batch.front()->request.group.empty()) {
      break;
    }
  }
  return batch;
}

std::string SlurmExecutor::NameOf(const AttemptKey& attempt) const {
  return absl::StrCat(prefix_, attempt.job_id, "-", attempt.number);
}

void SlurmExecutor::SubmitBatch(const std::vector<Pending*>& batch) {
  const bool is_array = batch.size() > 1;
  const std::string name = is_array ? absl::StrCat(prefix_, "array-", common::NewId(absl::Now()))
                                    : NameOf(batch.front()->request.attempt);
  absl::StatusOr<int64_t> job_id = RunSbatch(batch, name);
  if (absl::IsDeadlineExceeded(job_id.status()) || absl::IsDataLoss(job_id.status())) {
    // It may have been taken all the same.
    job_id = FindByName(name);
  }
  if (!job_id.ok()) {
    spdlog::warn("Slurm took none of {} attempt(s): {}", batch.size(),
                 std::string(job_id.status().message()));
  }
  std::vector<std::pair<SubmitCallback, absl::StatusOr<std::string>>> answers;
  {
    absl::MutexLock lock(&mu_);
    const absl::Duration now = Monotonic();
    for (size_t i = 0; i < batch.size(); ++i) {
      const Key key = KeyOf(batch[i]->request.attempt);
      absl::StatusOr<std::string> answer = std::string();
      if (!job_id.ok()) {
        answer = job_id.status();
      } else {
        Entry entry;
        entry.attempt = batch[i]->request.attempt;
        entry.id = {*job_id, std::nullopt, name};
        if (is_array) {
          entry.id.task = static_cast<int64_t>(i);
        }
        entry.view.state = AttemptView::State::kWaiting;
        entry.view.reason = "PENDING";
        entry.known_since = now;
        entry.has_ranks = batch[i]->shape.ranks > 1;
        entry.assignment = AssignmentPath(batch[i]->request.assignment.attempt_folder());
        answer = entry.id.Identity();
        if (batch[i]->signal.has_value()) {
          entry.killed = true;
          signals_[key] = *batch[i]->signal;
        }
        entries_.insert_or_assign(key, std::move(entry));
      }
      for (SubmitCallback& done : batch[i]->done) {
        answers.emplace_back(std::move(done), answer);
      }
      pending_.erase(key);
    }
    if (absl::IsResourceExhausted(job_id.status())) {
      // Perhaps there is room for some of them.
      most_together_ = std::max<size_t>(batch.size() / 2, 1);
    } else if (job_id.ok()) {
      most_together_ = std::min(2 * most_together_, MostTogether(config_));
    }
    // Whether it answers at all is asked at once, also while there is nothing else to ask for.
    look_now_ = look_now_ || absl::IsUnavailable(job_id.status());
    changed_.NotifyAll();
  }
  for (auto& [done, answer] : answers) {
    std::move(done)(std::move(answer));
  }
}

absl::StatusOr<int64_t> SlurmExecutor::RunSbatch(const std::vector<Pending*>& batch,
                                                 const std::string& name) {
  const v1::WorkerAssignment& first = batch.front()->request.assignment;
  const bool is_array = batch.size() > 1;
  SbatchJob job;
  job.name = name;
  job.shape = batch.front()->shape;
  const WorkerCommand worker = {
      .binary = options_.worker_binary,
      .server_ca_file = options_.server_ca_file,
      .srun = options_.bin.empty() ? "srun" : absl::StrCat(options_.bin, "/srun"),
      .rank_binary = RankWorker(options_.worker_binary),
      .mpi = options_.mpi};
  std::string script;
  std::string list_folder;
  if (is_array) {
    list_folder = absl::StrCat(ListsFolder(), "/", name);
    NORMLAB_RETURN_IF_ERROR(MakeFolder(list_folder));
    std::vector<ListedAttempt> listed;
    for (const Pending* one : batch) {
      listed.push_back({one->request.attempt, one->request.assignment.attempt_folder()});
    }
    const std::string list = list_folder + "/attempts";
    NORMLAB_RETURN_IF_ERROR(common::WriteFileAtomically(list, ListOf(listed)));
    script = ArrayScript(worker, job.shape, list);
    job.elements = static_cast<int>(batch.size());
    job.script = list_folder + "/run.sh";
    job.log_path = "/dev/null";  // the script says where to
    job.folder = list_folder;
  } else {
    script = ScriptOf(worker, job.shape, first);
    job.script = first.attempt_folder() + "/run.sh";
    job.log_path = batch.front()->request.log_path;
    job.folder = first.attempt_folder();
  }
  absl::Status ready = common::WriteFileAtomically(job.script, script);
  for (const Pending* one : batch) {
    if (ready.ok()) {
      ready = WriteAssignment(one->request.assignment);
    }
  }
  absl::StatusOr<int64_t> job_id =
      ready.ok() ? client_.Submit(job, WorkerEnvironment(job.shape.cores, {}))
                 : absl::StatusOr<int64_t>(absl::UnavailableError(ready.message()));
  if (absl::IsInvalidArgument(job_id.status()) || absl::IsUnavailable(job_id.status()) ||
      absl::IsResourceExhausted(job_id.status())) {
    // Nothing was taken, so nobody will read them.
    std::error_code ignored;
    for (const Pending* one : batch) {
      std::filesystem::remove(AssignmentPath(one->request.assignment.attempt_folder()), ignored);
    }
    if (!list_folder.empty()) {
      std::filesystem::remove_all(list_folder, ignored);
    }
  }
  return job_id;
}

absl::StatusOr<int64_t> SlurmExecutor::FindByName(const std::string& name) {
  NORMLAB_ASSIGN_OR_RETURN(const std::vector<SlurmRecord> records, client_.Jobs(name));
  int64_t last = 0;
  for (const SlurmRecord& record : records) {
    last = record.name == name ? std::max(last, record.job_id) : last;
  }
  if (last > 0) {
    return last;
  }
  return absl::UnavailableError("sbatch did not answer in time, and Slurm has no such job");
}

void SlurmExecutor::SendSignals(const std::map<Key, AttemptSignal>& signals) {
  // Commands, in the order in which they are given, and of which jobs.
  enum Step { kOfWaiting, kTake, kSignalled, kEnd };
  std::map<std::pair<Step, SlurmClient::Cancel>, std::vector<std::string>> commands;
  {
    absl::MutexLock lock(&mu_);
    for (const auto& [key, signal] : signals) {
      const auto found = entries_.find(key);
      if (found == entries_.end() || found->second.id.job_id == 0) {
        continue;
      }
      const Entry& entry = found->second;
      const std::string id = entry.id.Text();
      if (entry.id.task.has_value() && entry.view.state == AttemptView::State::kWaiting) {
        // Never with --state: Slurm 22.05 takes the whole of an array that waits for one element.
        commands[{kTake, SlurmClient::Cancel::kAll}].push_back(id);
        continue;
      }
      if (!entry.id.task.has_value()) {
        // What does not run yet never will; only then the others, so that none slips in between.
        commands[{kOfWaiting, SlurmClient::Cancel::kWaiting}].push_back(id);
      }
      switch (signal) {
        case AttemptSignal::kCheckpoint:
          commands[{kSignalled, SlurmClient::Cancel::kCheckpoint}].push_back(id);
          break;
        case AttemptSignal::kStop:
          commands[{kSignalled,
                    entry.has_ranks ? SlurmClient::Cancel::kStopRanks : SlurmClient::Cancel::kStop}]
              .push_back(id);
          break;
        case AttemptSignal::kKill:
          // At once; and for what the worker may have left, as Slurm does it.
          commands[{kSignalled, SlurmClient::Cancel::kKill}].push_back(id);
          commands[{kEnd, SlurmClient::Cancel::kAll}].push_back(id);
          break;
      }
    }
  }
  for (const auto& [command, all] : commands) {
    for (size_t from = 0; from < all.size(); from += kMostIds) {
      const absl::Span<const std::string> some = absl::MakeConstSpan(all).subspan(from, kMostIds);
      if (const absl::Status sent = client_.Signal(command.second, some); !sent.ok()) {
        // The controller asks again for what does not go, for as long as it takes.
        if (const auto failed = scancel_troubles_.Count(Monotonic()); failed.has_value()) {
          spdlog::warn("scancel of {}: {} (failed {} time(s) since this was last told)",
                       absl::StrJoin(some, " "), std::string(sent.message()), *failed);
        }
      }
    }
  }
  absl::MutexLock lock(&mu_);
  look_now_ = true;
  changed_.NotifyAll();
}

}  // namespace normlab::server
