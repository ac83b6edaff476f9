// The thread that asks Slurm, for all attempts at once, what became of them.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

#include "common/atomic_file.h"
#include "server/executor/slurm_executor_impl.h"
#include "server/executor/slurm_states.h"

#include <spdlog/spdlog.h>

namespace normlab::server {
namespace {

// After something was cancelled: Slurm takes a moment.
constexpr absl::Duration kSoon = absl::Milliseconds(300);
// A look at thousands of jobs keeps this machine and Slurm's controller busy, which have better things to
// do: looks take at most one part in so many of the time.
constexpr int kLeastPause = 20;
constexpr std::chrono::minutes kLeastAgeOfList{10};

}  // namespace

void SlurmExecutor::Watch() {
  absl::Duration last_took;
  while (true) {
    {
      absl::MutexLock lock(&mu_);
      const absl::Duration pause =
          std::clamp(kLeastPause * last_took, options_.poll_interval,
                     options_.poll_interval + options_.command_timeout / 2);
      changed_.WaitFor(mu_, pause, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
        return stopping_ || look_now_;
      });
      const bool wanted = std::exchange(look_now_, false);
      if (wanted) {
        changed_.WaitFor(mu_, std::min(kSoon, options_.poll_interval),
                         [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return stopping_; });
      }
      if (stopping_) {
        return;
      }
      if (entries_.empty() && health_.ok() && !wanted) {
        continue;  // nothing to ask for
      }
    }
    const absl::Duration begin = Monotonic();
    // What is wrong, if anything, SetHealth has said; then it is not Slurm that is kept busy.
    last_took = Look().ok() ? Monotonic() - begin : absl::ZeroDuration();
  }
}

absl::Status SlurmExecutor::Look() {
  const absl::Duration asked = Monotonic();
  const absl::StatusOr<std::vector<SlurmRecord>> records = client_.Jobs(prefix_);
  SetHealth(records.status());
  if (!records.ok()) {
    return records.status();
  }
  std::map<std::string, const SlurmRecord*> by_id;
  std::map<std::string, int64_t> by_name;
  for (const SlurmRecord& record : *records) {
    by_id[record.Id()] = &record;
    // An attempt that was taken back may have been handed over before, by the same name.
    int64_t& last = by_name[record.name];
    last = std::max(last, record.job_id);
  }
  std::vector<ProcessExit> exits;
  std::vector<SlurmId> missing;
  {
    absl::MutexLock lock(&mu_);
    for (auto it = entries_.begin(); it != entries_.end();) {
      Entry& entry = it->second;
      if (const auto found = by_name.find(entry.id.name);
          entry.id.job_id == 0 && found != by_name.end()) {
        entry.id.job_id = found->second;  // it was handed over, and nobody was left to note it
      }
      const auto found = by_id.find(entry.id.Text());
      // Numbers are used again where Slurm's state was thrown away.
      if (found == by_id.end() || found->second->name != entry.id.name) {
        if (entry.known_since < asked) {
          missing.push_back(entry.id);
        }
        ++it;
        continue;
      }
      entry.has_ranks = found->second->processes > 1;
      std::optional<ProcessExit> exit = ExitOf(*found->second, entry.killed);
      if (!exit.has_value()) {
        entry.view = ViewOf(*found->second, absl::Now());
        // Clocks of machines differ; it has not run for longer than it has been there.
        entry.view.running_for =
            std::clamp(entry.view.running_for, absl::ZeroDuration(),
                       std::max(asked - entry.known_since, absl::ZeroDuration()));
        ++it;
        continue;
      }
      exit->attempt = entry.attempt;
      RemoveAssignment(entry);
      exits.push_back(*std::move(exit));
      it = entries_.erase(it);
    }
  }
  for (const SlurmId& id : missing) {
    const absl::StatusOr<SlurmRecord> record = FindForgotten(id);
    if (absl::IsUnavailable(record.status())) {
      break;  // Slurm went away meanwhile
    }
    absl::MutexLock lock(&mu_);
    for (auto it = entries_.begin(); it != entries_.end(); ++it) {
      if (it->second.id.Identity() != id.Identity()) {
        continue;
      }
      std::optional<ProcessExit> exit =
          record.ok() ? ExitOf(*record, it->second.killed) : ProcessExit();
      if (!exit.has_value()) {
        break;  // it is there after all
      }
      if (!record.ok()) {
        exit->cause = it->second.killed ? ExitCause::kSignalled : ExitCause::kUnknown;
        exit->description = std::string(record.status().message());
      }
      exit->attempt = it->second.attempt;
      RemoveAssignment(it->second);
      exits.push_back(*std::move(exit));
      entries_.erase(it);
      break;
    }
  }
  RemoveOldLists(*records);
  Tell(exits);
  return absl::OkStatus();
}

absl::StatusOr<SlurmRecord> SlurmExecutor::FindForgotten(const SlurmId& id) {
  if (id.job_id == 0) {
    return absl::NotFoundError(absl::StrCat("Slurm never had a job ", id.name));
  }
  absl::StatusOr<SlurmRecord> record = client_.Job(id.Text());
  if (record.ok() && record->name == id.name) {
    return record;
  }
  if (absl::IsUnavailable(record.status())) {
    return record.status();
  }
  if (!config_.job_completions.empty()) {
    record = FindCompletion(config_.job_completions, id.job_id, id.task);
    if (record.ok() && record->name == id.name) {
      return record;
    }
  }
  return absl::NotFoundError(
      absl::StrCat("Slurm has no record of job ", id.Text(), " any more (MinJobAge)"));
}

void SlurmExecutor::RemoveAssignment(const Entry& entry) {
  std::error_code ignored;
  if (!entry.assignment.empty()) {
    std::filesystem::remove(entry.assignment, ignored);
  }
}

void SlurmExecutor::Tell(const std::vector<ProcessExit>& exits) {
  absl::MutexLock lock(&callback_mu_);
  for (const ProcessExit& exit : exits) {
    if (callback_) {
      callback_(exit);
    }
  }
}

std::map<SlurmExecutor::Key, SlurmExecutor::SlurmId> SlurmExecutor::ReadLists() const {
  std::map<Key, SlurmId> found;
  std::error_code error;
  for (const auto& folder : std::filesystem::directory_iterator(ListsFolder(), error)) {
    const std::string name = folder.path().filename().string();
    const absl::StatusOr<std::string> list = common::ReadFile(folder.path().string() + "/attempts");
    if (!list.ok()) {
      continue;
    }
    const std::vector<ListedAttempt> attempts = ParseList(*list);
    for (size_t i = 0; i < attempts.size(); ++i) {
      found[KeyOf(attempts[i].attempt)] = {0, static_cast<int64_t>(i), name};
    }
  }
  return found;
}

void SlurmExecutor::RemoveOldLists(const std::vector<SlurmRecord>& records) {
  // An element that waits reads its list when it starts; those of which Slurm knows nothing any more are
  // read by nobody.
  std::set<std::string> needed;
  for (const SlurmRecord& record : records) {
    needed.insert(record.name);
  }
  {
    absl::MutexLock lock(&mu_);
    for (const auto& [key, entry] : entries_) {
      needed.insert(entry.id.name);
    }
  }
  std::error_code error;
  for (const auto& folder : std::filesystem::directory_iterator(ListsFolder(), error)) {
    std::error_code ignored;
    const auto written = std::filesystem::last_write_time(folder.path(), ignored);
    // One that is new may have been written since Slurm was asked.
    if (needed.count(folder.path().filename().string()) == 0 &&
        std::filesystem::file_time_type::clock::now() - written > kLeastAgeOfList) {
      std::filesystem::remove_all(folder.path(), ignored);
    }
  }
}

void SlurmExecutor::SetHealth(const absl::Status& health) {
  absl::MutexLock lock(&mu_);
  if (health_.ok() && !health.ok()) {
    spdlog::error("Slurm does not answer: {}", std::string(health.message()));
  } else if (!health_.ok() && health.ok()) {
    spdlog::info("Slurm answers again");
  }
  health_ = health;
}

}  // namespace normlab::server
