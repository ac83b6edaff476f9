// The ways in which an attempt ends: by its own outcome, by its process's exit, by cancellation, by
// time.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/worker_exit.h"
#include "engine/spec/ranks.h"
#include "server/domain/errors.h"
#include "server/domain/names.h"
#include "server/domain/states.h"
#include "server/domain/transitions.h"
#include "server/scheduler/controller_impl.h"
#include "server/scheduler/failures.h"
#include "server/scheduler/worker_output.h"

#include "spdlog/spdlog.h"

namespace normlab::server {
namespace {

const v1::Attempt* FindAttempt(const v1::Job& job, int32_t number) {
  for (const v1::Attempt& attempt : job.attempts()) {
    if (attempt.number() == number) {
      return &attempt;
    }
  }
  return nullptr;
}

// Workers in a row, of those that run elsewhere, that may fail their jobs by not saying hello.
constexpr int kMostMute = 3;

// How a job whose worker was lost with the earlier server came through, by the state it is in now.
Recovery RecoveryOf(v1::Job::State state) {
  switch (state) {
    case v1::Job::QUEUED:
      return Recovery::kRequeued;
    case v1::Job::FAILED:
      return Recovery::kFailed;
    default:
      return Recovery::kEnded;
  }
}

}  // namespace

void ControllerImpl::OnExit(const ProcessExit& exit) {
  LiveAttempt* attempt = Find(exit.attempt);
  if (attempt == nullptr || stopping_) {
    return;
  }
  if (exit.peak_memory_bytes > 0 && attempt->reservation.memory_bytes > 0) {
    // Of several processes it is the largest one's.
    observer_.OnPeakMemory(exit.peak_memory_bytes * engine::RanksOf(attempt->job.resolved_spec()),
                           attempt->reservation.memory_bytes);
  }
  attempt->has_process = false;
  attempt->exit = exit;
  attempt->cancel_deadline = absl::InfiniteDuration();
  attempt->time_limit_deadline = absl::InfiniteDuration();
  switch (attempt->phase) {
    case Phase::kEnded:
      Remove(attempt->key);
      return;
    case Phase::kEnding:
      return;  // goes when the loss is committed
    case Phase::kStarting:
    case Phase::kAdopting:
    case Phase::kRunning:
    case Phase::kKilled:
      if (attempt->session == nullptr) {
        FinishExit(*attempt);
        return;
      }
      // Its last reports, the outcome perhaps, may still be in the server: the end of the session
      // says that they are stored.
      attempt->phase = Phase::kDraining;
      attempt->phase_deadline = Monotonic() + options_.drain_grace;
      return;
    case Phase::kBeginning:
    case Phase::kPreparing:
    case Phase::kDraining:
      return;  // had no process, or its exit was told already
  }
}

void ControllerImpl::FinishExit(LiveAttempt& attempt) {
  if (attempt.is_mute && capabilities_.places && ++mute_in_a_row_ > kMostMute) {
    // Nobody gets through to this server: not the matter of those jobs that are still to come.
    const absl::Status why = absl::UnavailableError(attempt.failure->message());
    OnMachineFailed(why);
    TakeBack(attempt, why);
    return;
  }
  if (attempt.failure.has_value()) {
    Lose(attempt, *attempt.failure);
    return;
  }
  if (const ProcessExit& exit = *attempt.exit;
      !attempt.said_hello && exit.cause == ExitCause::kExited &&
      (exit.code == 126 || exit.code == 127) && engine::RanksOf(attempt.job.resolved_spec()) == 1) {
    // What the shell and the loader of programs say: it cannot be executed, or a library is missing. (What
    // only jobs of several processes need does not concern all others.)
    const absl::Status why = absl::UnavailableError(
        absl::StrCat("the worker program does not start (", exit.description, "); look at ",
                     LogPath(attempt.key), " and install what is missing",
                     capabilities_.places ? ", or mount the work folder there" : ""));
    OnMachineFailed(why);
    TakeBack(attempt, why);
    return;
  }
  if (const ProcessExit& exit = *attempt.exit; !attempt.said_hello &&
                                               exit.cause == ExitCause::kExited &&
                                               exit.code == common::kExitDataUnusable) {
    // It has removed what was damaged, and the helper makes it again.
    OnDataNotReady(attempt, absl::UnavailableError(absl::StrCat(
                                "the worker could not use the decoded data set; the end of ",
                                LogPath(attempt.key), " says why")));
    return;
  }
  const bool adopted_in_vain =
      attempt.phase == Phase::kAdopting && attempt.exit->cause == ExitCause::kExited;
  Lose(attempt, adopted_in_vain
                    ? ServerLostFailure("the worker outlived the earlier server, but ended before "
                                        "it said hello to this one")
                    : ExitFailure(*attempt.exit, attempt.said_hello,
                                  attempt.reservation.memory_bytes, LogPath(attempt.key)));
}

void ControllerImpl::OnPhaseDeadline(LiveAttempt& attempt) {
  switch (attempt.phase) {
    case Phase::kStarting:
      attempt.is_mute = true;
      Kill(attempt,
           HelloTimeoutFailure(options_.hello_timeout, capabilities_.places, LogPath(attempt.key)));
      return;
    case Phase::kAdopting:
      Kill(attempt,
           ServerLostFailure(
               "the worker outlived the earlier server, but did not come back to this one"));
      return;
    case Phase::kKilled:
      // The process hangs in the kernel. Its attempt ends all the same; the reservation stays until
      // it is gone.
      spdlog::warn("the process of {} attempt {} does not die", attempt.job.name(),
                   attempt.key.number);
      Lose(attempt, *attempt.failure);
      return;
    case Phase::kDraining:
      FinishExit(attempt);
      return;
    case Phase::kEnding:
      Lose(attempt, *attempt.failure);  // the store could not write it before
      return;
    case Phase::kEnded:
      // Again and again for as long as it takes, which the log need not tell every time.
      if (++attempt.kills; (attempt.kills & (attempt.kills - 1)) == 0) {
        spdlog::warn("{} attempt {} is over, but its process stays; killing it (time {})",
                     attempt.job.name(), attempt.key.number, attempt.kills);
      }
      attempt.phase_deadline = Monotonic() + options_.exit_grace;
      // Last: what it drops may be the attempt's end.
      executor_.Signal(AttemptKey(attempt.key), AttemptSignal::kKill).IgnoreError();
      return;
    case Phase::kPreparing:
      Prepare(attempt);  // the helper failed before
      return;
    case Phase::kBeginning:
    case Phase::kRunning:
      return;  // have none
  }
}

void ControllerImpl::RequestCancel(LiveAttempt& attempt) {
  if (attempt.cancel_requested) {
    return;
  }
  attempt.cancel_requested = true;
  if (EndBeforeStart(attempt, CancelledBeforeStartFailure())) {
    return;
  }
  if (attempt.phase == Phase::kRunning) {
    attempt.cancel_deadline = Monotonic() + options_.cancel_grace;
  }
  TellToStop(attempt);
}

void ControllerImpl::FollowPause(LiveAttempt& attempt) {
  // Whatever brought us here may be outdated.
  const JobResult job = store_.GetJob(attempt.key.job_id);
  if (!job.ok() && !absl::IsNotFound(job.status())) {
    // The wish is durable and its answer was given, so it must not be forgotten here.
    spdlog::warn("cannot read {}: {}; trying again", attempt.job.name(),
                 std::string(job.status().message()));
    rechecks_[attempt.key.job_id] = Monotonic() + kStoreRetryDelay;
    return;
  }
  if (!job.ok() || !IsCurrentAttempt(*job, attempt.key.number)) {
    return;  // it is over
  }
  const bool asked = job->has_pause_request_time() && !attempt.pause_requested;
  attempt.pause_requested = job->has_pause_request_time();
  // A worker that was told to stop cannot be told to go on: its job is queued again when it ends.
  if (asked && !EndBeforeStart(attempt, PausedBeforeStartFailure())) {
    TellToStop(attempt);
  }
}

bool ControllerImpl::EndBeforeStart(LiveAttempt& attempt, const v1::Failure& failure) {
  if (attempt.phase == Phase::kPreparing) {
    Lose(attempt, failure);
    return true;
  }
  if (attempt.phase == Phase::kStarting && attempt.session == nullptr) {
    Kill(attempt, failure);
    return true;
  }
  return false;
}

void ControllerImpl::TellToStop(LiveAttempt& attempt) const {
  // One that connects, or comes back, is told when its hello is committed.
  if (attempt.phase != Phase::kRunning || attempt.session == nullptr) {
    return;
  }
  v1::StopRequest request;
  if (attempt.cancel_requested) {
    request.set_kind(v1::StopRequest::CANCEL);
  } else if (draining_) {
    request.set_kind(v1::StopRequest::CHECKPOINT);
    request.set_reason(v1::FailureReason::SERVER_DRAINED);
  } else if (attempt.pause_requested) {
    request.set_kind(v1::StopRequest::CHECKPOINT);
    request.set_reason(v1::FailureReason::PAUSED);
  } else {
    return;
  }
  attempt.session->Stop(request);
}

void ControllerImpl::Kill(LiveAttempt& attempt, v1::Failure failure) {
  const bool alive = attempt.phase == Phase::kStarting || attempt.phase == Phase::kAdopting ||
                     attempt.phase == Phase::kRunning;
  if (!alive) {
    return;
  }
  spdlog::warn("{} attempt {}: killing the worker: {}", attempt.job.name(), attempt.key.number,
               failure.message());
  attempt.failure = std::move(failure);
  attempt.phase = Phase::kKilled;
  attempt.phase_deadline = Monotonic() + options_.exit_grace;
  if (const absl::Status killed = executor_.Signal(attempt.key, AttemptSignal::kKill);
      !killed.ok()) {
    spdlog::error("{} attempt {}: {}", attempt.job.name(), attempt.key.number,
                  std::string(killed.message()));
  }
}

void ControllerImpl::Lose(LiveAttempt& attempt, v1::Failure failure) {
  attempt.phase = Phase::kEnding;
  attempt.phase_deadline = absl::InfiniteDuration();
  attempt.failure = failure;
  if (failure.reason() == v1::FailureReason::DATA_LOSS) {
    store_.FailDamaged(
        attempt.key.job_id, std::move(failure),
        [mailbox = mailbox_, this, key = attempt.key](JobResult result) {
          mailbox->Post([this, key, result = std::move(result)] { OnLost(key, result); });
        });
    return;
  }
  Update(
      attempt.key.job_id,
      [number = attempt.key.number, failure = std::move(failure), now = WallClock(),
       output = OutputOf(attempt)](v1::Job& stored, std::vector<v1::Segment>& records) {
        records.insert(records.end(), output.begin(), output.end());
        return LoseAttempt(stored, number, failure, now, records);
      },
      std::nullopt,
      [this, key = attempt.key](JobResult result) { OnLost(key, std::move(result)); });
}

std::vector<v1::Segment> ControllerImpl::OutputOf(const LiveAttempt& attempt) const {
  // Of one process here there is nobody else's output.
  const bool others_speak =
      capabilities_.places || engine::RanksOf(attempt.job.resolved_spec()) > 1;
  return others_speak ? OutputRecords(LogPath(attempt.key), attempt.key.number, WallClock())
                      : std::vector<v1::Segment>();
}

std::vector<v1::Segment> ControllerImpl::UntoldOutput(const AttemptKey& key) {
  return capabilities_.places ? OutputRecords(LogPath(key), key.number, WallClock())
                              : std::vector<v1::Segment>();
}

void ControllerImpl::OnLost(const AttemptKey& key, JobResult result) {
  LiveAttempt* attempt = Find(key);
  if (attempt == nullptr || attempt->phase != Phase::kEnding || stopping_) {
    return;
  }
  if (absl::IsFailedPrecondition(result.status()) || absl::IsNotFound(result.status())) {
    // Its outcome was stored first, which is what counts.
    result = store_.GetJob(key.job_id);
    if (absl::IsNotFound(result.status())) {
      Remove(key);
      return;
    }
    if (result.ok() && IsCurrentAttempt(*result, key.number)) {
      result = absl::InternalError("the store refuses the end of a live attempt");
    }
  }
  if (absl::IsDataLoss(result.status())) {
    if (attempt->failure->reason() != v1::FailureReason::DATA_LOSS) {
      Lose(*attempt, DamagedFailure(result.status()));
      return;
    }
    // Not even that can be written. Whoever asks for the job is told that it is damaged.
    spdlog::error("the end of {} attempt {} cannot be stored: {}", JobName(key.job_id), key.number,
                  std::string(result.status().message()));
    if (attempt->session != nullptr) {
      attempt->session->Close(result.status());
    }
    if (attempt->has_process) {
      executor_.Signal(key, AttemptSignal::kKill).IgnoreError();
    }
    Remove(key);
    return;
  }
  if (!result.ok()) {
    spdlog::error("cannot store the end of {} attempt {}: {}; trying again", attempt->job.name(),
                  key.number, std::string(result.status().message()));
    attempt->phase_deadline = Monotonic() + kStoreRetryDelay;
    return;
  }
  if (attempt->session != nullptr) {
    attempt->session->Close(AttemptSuperseded(*result, key.number));
  }
  Ended(*attempt, *result);
}

void ControllerImpl::OnAttemptFinished(const v1::Job& job) {
  const absl::StatusOr<std::string> id = ParseJobName(job.name());
  const auto live = id.ok() ? live_.find(*id) : live_.end();
  if (live == live_.end() || live->second->phase == Phase::kEnded || stopping_) {
    return;
  }
  LiveAttempt& attempt = *live->second;
  const v1::Attempt* finished = FindAttempt(job, attempt.key.number);
  if (finished != nullptr && finished->state() == v1::Attempt::ENDED) {
    Ended(attempt, job);
  }
}

void ControllerImpl::Ended(LiveAttempt& attempt, const v1::Job& job) {
  const v1::Attempt* ended = FindAttempt(job, attempt.key.number);
  const v1::FailureReason::Kind reason =
      ended != nullptr ? ended->failure().reason() : v1::FailureReason::FAILURE_REASON_UNSPECIFIED;
  spdlog::info(
      "{} {}: attempt {} ended{}{}", job.name(), StateName(job.state()), attempt.key.number,
      reason == v1::FailureReason::FAILURE_REASON_UNSPECIFIED ? "" : " with ",
      reason == v1::FailureReason::FAILURE_REASON_UNSPECIFIED ? "" : FailureReasonName(reason));
  const bool cancelled = job.state() == v1::Job::CANCELLED;
  observer_.OnAttemptEnded(IsTerminal(job.state()) ? job.state() : v1::Job::FAILED,
                           cancelled ? v1::FailureReason::FAILURE_REASON_UNSPECIFIED : reason);
  if (std::exchange(attempt.recovering, false)) {
    observer_.OnRecovered(RecoveryOf(job.state()));
  }
  observer_.OnTransition(job.state(),
                         cancelled ? v1::FailureReason::FAILURE_REASON_UNSPECIFIED : reason);
  CorrectCoreSeconds(attempt, job);
  attempt.phase = Phase::kEnded;
  attempt.phase_deadline = Monotonic() + options_.exit_grace;
  attempt.cancel_deadline = absl::InfiniteDuration();
  attempt.time_limit_deadline = absl::InfiniteDuration();
  attempt.session = nullptr;
  if (!IsTerminal(job.state())) {
    // `job` may be older than a pause or resume that came since.
    Refresh(attempt.key.job_id);
  }
  if (!attempt.has_process) {
    Remove(attempt.key);
  }
}

}  // namespace normlab::server
