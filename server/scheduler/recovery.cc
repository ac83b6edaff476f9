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
  std::vector<FoundAttempt> found;
  std::vector<Executor::KnownAttempt> known;
  for (const v1::Job& job : jobs) {
    NORMLAB_ASSIGN_OR_RETURN(std::optional<FoundAttempt> attempt, FindUnfinished(job));
    if (attempt.has_value()) {
      known.push_back({attempt->key, attempt->secrets.process_identity});
      found.push_back(*std::move(attempt));
    }
  }
  const std::vector<AttemptView> views = executor_.Reconcile(std::move(known));
  for (size_t i = 0; i < found.size(); ++i) {
    RecoverAttempt(found[i], views[i]);
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
    if (!capabilities_.places && (entry.cores > static_cast<int>(options_.cores.size()) ||
                                  entry.memory_bytes > options_.memory_bytes)) {
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

absl::StatusOr<std::optional<ControllerImpl::FoundAttempt>> ControllerImpl::FindUnfinished(
    const v1::Job& job) {
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
    return std::optional<FoundAttempt>();
  }
  NORMLAB_RETURN_IF_ERROR(secrets.status());
  return std::optional<FoundAttempt>({job, {id, current->number()}, *std::move(secrets)});
}

void ControllerImpl::RecoverAttempt(const FoundAttempt& found, const AttemptView& view) {
  const v1::Job& job = found.job;
  const v1::Attempt* current = CurrentAttempt(job);
  auto owned = std::make_unique<LiveAttempt>();
  owned->key = found.key;
  owned->reservation = {
      {current->cores().begin(), current->cores().end()}, current->memory_bytes(), job.owner()};
  // Where nothing is found without an identity, the server died around the spawn. Should there be a
  // worker, it is refused when it says hello, because its attempt is over, and exits.
  const bool lives = view.state != AttemptView::State::kGone;
  const bool runs = view.state == AttemptView::State::kRunning;
  // The kernel knows for how long a process has run, whatever happened to the wall clock since.
  const absl::Duration ago =
      runs ? view.running_for
           : std::max(WallClock() - FromTimestamp(current->start_time()), absl::ZeroDuration());
  if (runs) {
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
  attempt.place_known = !capabilities_.may_wait || (!current->placement().empty() &&
                                                    current->placement() != capabilities_.name);
  attempt.is_running = job.state() == v1::Job::RUNNING;
  attempt.cancel_requested = job.has_cancel_request_time();
  attempt.pause_requested = job.has_pause_request_time();

  attempt.secret_sha256 = found.secrets.secret_sha256;
  if (!lives) {
    spdlog::info("{} attempt {} did not outlive the earlier server: {}", job.name(),
                 attempt.key.number, view.reason);
    Lose(attempt, view.exit.has_value()
                      ? ExitFailure(*view.exit, attempt.is_running, current->memory_bytes(),
                                    LogPath(attempt.key))
                      : ServerLostFailure("the server ended, and the worker with it"));
    return;
  }
  attempt.has_process = true;
  if (!runs && !attempt.is_running) {
    spdlog::info("{} attempt {} still waits to run{}{}", job.name(), attempt.key.number,
                 view.reason.empty() ? "" : ": ", view.reason);
    attempt.waits_outside = true;
    attempt.outside_reason = view.reason;
    attempt.phase = Phase::kStarting;
    observe_due_ = Monotonic();
  } else {
    spdlog::info("{} attempt {} outlived the earlier server; waiting for its hello", job.name(),
                 attempt.key.number);
    attempt.phase = Phase::kAdopting;
    if (runs) {
      attempt.phase_deadline = Monotonic() + options_.adoption_grace;
      StartTimeLimit(attempt, view.running_for);
    } else {
      // Nothing is known of it now; time counts from when there is an answer.
      attempt.waits_outside = true;
      observe_due_ = Monotonic();
    }
  }
  if (found.secrets.process_identity.empty() && !view.identity.empty()) {
    AttemptSecrets secrets;
    secrets.process_identity = view.identity;
    Update(
        attempt.key.job_id, [](v1::Job&, std::vector<v1::Segment>&) { return absl::OkStatus(); },
        std::move(secrets), [](const JobResult&) {});
  }
  // What was asked of one that waits is done at once; one that runs is told when it says hello.
  if (attempt.waits_outside && attempt.cancel_requested) {
    EndBeforeStart(attempt, CancelledBeforeStartFailure());
  } else if (attempt.waits_outside && attempt.pause_requested) {
    EndBeforeStart(attempt, PausedBeforeStartFailure());
  }
}

}  // namespace normlab::server
