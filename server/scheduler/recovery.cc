// What an earlier server left: its queue, and attempts that may have outlived it.
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "server/domain/names.h"
#include "server/domain/proto_time.h"
#include "server/domain/states.h"
#include "server/domain/transitions.h"
#include "server/scheduler/controller_impl.h"
#include "server/scheduler/failures.h"
#include "server/scheduler/retry.h"

#include "spdlog/spdlog.h"

namespace normlab::server {

absl::Status ControllerImpl::Recover() {
  std::vector<std::string> damaged;
  NORMLAB_ASSIGN_OR_RETURN(const std::vector<v1::Job> jobs, store_.ActiveJobs(&damaged));
  for (const std::string& id : damaged) {
    // One job is lost; the others are not.
    FailDamagedJob(id, absl::DataLossError("its row in the database cannot be decoded"));
    observer_.OnRecovered(Recovery::kFailed);
  }
  for (const v1::Job& job : jobs) {
    NORMLAB_RETURN_IF_ERROR(RecoverAttempt(job));
  }
  return RecoverQueue();
}

// There may be ten thousand, of any size: only what deciding needs is read. One of which something
// else cannot be read is failed when its turn comes.
absl::Status ControllerImpl::RecoverQueue() {
  NORMLAB_ASSIGN_OR_RETURN(const std::vector<QueueEntry> queue, store_.QueuedJobs());
  for (const QueueEntry& entry : queue) {
    // Only some of those that failed a moment ago have a delay left, which depends on all of their
    // attempts. A clock that was set back makes it seem less than a moment.
    if (WallClock() - entry.last_failure < kLongestRetryDelay) {
      Refresh(entry.id);
    } else {
      AddWaiting(entry, absl::ZeroDuration());
    }
    observer_.OnRecovered(Recovery::kQueued);
    if (entry.cores > static_cast<int>(options_.cores.size()) ||
        entry.memory_bytes > options_.memory_bytes) {
      // It fitted when it was accepted, so the server has shrunk. Whether for good only a person
      // knows.
      const std::string text = absl::StrCat(
          "waits for a larger server: needs ", entry.cores, " cores and ", entry.memory_bytes,
          " bytes of memory, this one has ", options_.cores.size(), " and ", options_.memory_bytes,
          ". Cancel it, or restart the server with more");
      spdlog::warn("{} {}", JobName(entry.id), text);
      Update(
          entry.id,
          [text, now = WallClock()](v1::Job&, std::vector<v1::Segment>& records) {
            records.push_back(LogRecord(v1::LogLine::WARNING, text, 0, now));
            return absl::OkStatus();
          },
          std::nullopt, [](const JobResult&) {});
    }
  }
  return absl::OkStatus();
}

absl::Status ControllerImpl::RecoverAttempt(const v1::Job& job) {
  NORMLAB_ASSIGN_OR_RETURN(const std::string id, ParseJobName(job.name()));
  const v1::Attempt* current = CurrentAttempt(job);
  absl::StatusOr<AttemptSecrets> secrets = absl::DataLossError(
      absl::StrCat(job.name(), " is ", StateName(job.state()), " without an attempt"));
  if (current != nullptr) {
    secrets = store_.GetAttemptSecrets({id, current->number()});
    if (absl::IsNotFound(secrets.status())) {
      secrets = absl::DataLossError(secrets.status().message());
    }
  }
  if (absl::IsDataLoss(secrets.status())) {
    // Should its worker live, it is refused when it says hello, and exits.
    FailDamagedJob(id, secrets.status());
    observer_.OnRecovered(Recovery::kFailed);
    return absl::OkStatus();
  }
  NORMLAB_RETURN_IF_ERROR(secrets.status());
  auto owned = std::make_unique<LiveAttempt>();
  owned->key = {id, current->number()};
  owned->reservation = {
      {current->cores().begin(), current->cores().end()}, current->memory_bytes(), job.owner()};
  // Without an identity the server died around the spawn. Should there be a worker, it is refused
  // when it says hello, because its attempt is over, and exits.
  const absl::StatusOr<absl::Duration> adopted =
      secrets->process_identity.empty() ? absl::NotFoundError("it had not been started")
                                        : executor_.Adopt(owned->key, secrets->process_identity);
  // The kernel knows for how long a process has run, whatever happened to the wall clock since.
  const absl::Duration ago =
      adopted.ok()
          ? *adopted
          : std::max(WallClock() - FromTimestamp(current->start_time()), absl::ZeroDuration());
  if (adopted.ok()) {
    owned->held_since = Monotonic() - ago;
  }
  // What it used before the usage was saved last is known already.
  const auto known = usage_loaded_.find(job.owner());
  LiveAttempt& attempt =
      AddLive(std::move(owned),
              std::max(Monotonic() - ago,
                       known == usage_loaded_.end() ? -absl::InfiniteDuration() : known->second));
  attempt.job = job;
  attempt.recovering = true;
  attempt.is_running = job.state() == v1::Job::RUNNING;
  attempt.cancel_requested = job.has_cancel_request_time();
  attempt.pause_requested = job.has_pause_request_time();

  attempt.secret_sha256 = secrets->secret_sha256;
  if (!adopted.ok()) {
    spdlog::info("{} attempt {} did not outlive the earlier server: {}", job.name(),
                 attempt.key.number, std::string(adopted.status().message()));
    Lose(attempt, ServerLostFailure("the server ended, and the worker with it"));
    return absl::OkStatus();
  }
  spdlog::info("{} attempt {} outlived the earlier server; waiting for its hello", job.name(),
               attempt.key.number);
  attempt.has_process = true;
  attempt.phase = Phase::kAdopting;
  attempt.phase_deadline = Monotonic() + options_.adoption_grace;
  if (job.resolved_spec().has_time_limit()) {
    const google::protobuf::Duration& limit = job.resolved_spec().time_limit();
    attempt.time_limit_deadline =
        Monotonic() + absl::Seconds(limit.seconds()) + absl::Nanoseconds(limit.nanos()) - *adopted;
  }
  return absl::OkStatus();
}

}  // namespace normlab::server
