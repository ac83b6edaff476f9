#include "server/domain/transitions.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "server/domain/errors.h"
#include "server/domain/proto_time.h"
#include "server/domain/states.h"
#include "server/domain/take_back.h"

namespace normlab::server {
namespace {

using Records = std::vector<v1::Segment>;

// Sets the state and appends the record that tells of it.
void ChangeState(v1::Job& job,
                 v1::Job::State state,
                 absl::string_view message,
                 v1::FailureReason::Kind reason,
                 absl::Time now,
                 Records& records) {
  if (job.state() == v1::Job::QUEUED && job.has_queue_time()) {
    // The wall clock may have been set back.
    const absl::Duration waited =
        std::max(now - FromTimestamp(job.queue_time()), absl::ZeroDuration());
    job.set_waited_seconds(job.waited_seconds() + absl::ToDoubleSeconds(waited));
  }
  if (state == v1::Job::QUEUED) {
    *job.mutable_queue_time() = ToTimestamp(now);
  }
  job.set_state(state);
  if (IsTerminal(state)) {
    *job.mutable_end_time() = ToTimestamp(now);
  }
  if (!IsActive(state)) {
    // Has taken effect, or never will.
    job.clear_pause_request_time();
  }
  v1::StateChange& change = *records.emplace_back().mutable_state();
  change.set_state(state);
  *change.mutable_time() = ToTimestamp(now);
  change.set_attempt(job.attempts().empty() ? 0 : job.attempts().rbegin()->number());
  change.set_message(std::string(message));
  change.set_failure_reason(reason);
}

void EndAttempt(v1::Job& job, const v1::Failure* failure, absl::Time now) {
  v1::Attempt& attempt = *job.mutable_attempts()->rbegin();
  attempt.set_state(v1::Attempt::ENDED);
  *attempt.mutable_end_time() = ToTimestamp(now);
  const absl::Duration held = now - FromTimestamp(attempt.start_time());
  // The wall clock may have been set back.
  attempt.set_core_seconds(std::max(absl::ToDoubleSeconds(held), 0.0) * attempt.cores_size());
  if (failure != nullptr) {
    *attempt.mutable_failure() = *failure;
  }
  job.mutable_progress()->set_examples_per_second(0);
}

// Attempts at the end of the list that the service took away and that brought no new checkpoint.
int LossesInARow(const v1::Job& job) {
  int losses = 0;
  for (auto it = job.attempts().rbegin(); it != job.attempts().rend(); ++it) {
    if (UsesUpRetry(it->failure().reason()) || it->checkpoint_step() > it->start_step()) {
      break;
    }
    // What a person asked for is no loss, however often.
    losses += it->failure().reason() == v1::FailureReason::PAUSED ? 0 : 1;
  }
  return losses;
}

void Fail(v1::Job& job, const v1::Failure& failure, absl::Time now, Records& records) {
  *job.mutable_failure() = failure;
  ChangeState(job, v1::Job::FAILED, failure.message(), failure.reason(), now, records);
}

// What follows an attempt that ended without the job's own result; the attempt has ended already.
void FailOrRequeue(v1::Job& job, const v1::Failure& failure, absl::Time now, Records& records) {
  const int32_t number = job.attempts().rbegin()->number();
  if (job.has_cancel_request_time()) {
    ChangeState(job, v1::Job::CANCELLED, "cancelled", v1::FailureReason::FAILURE_REASON_UNSPECIFIED,
                now, records);
    return;
  }
  const bool own_fault = UsesUpRetry(failure.reason());
  const bool as_asked = failure.reason() == v1::FailureReason::PAUSED ||
                        failure.reason() == v1::FailureReason::SERVER_DRAINED;
  // Not for one that ends the job: its last record says the same.
  const v1::Segment log =
      LogRecord(own_fault  ? v1::LogLine::ERROR
                : as_asked ? v1::LogLine::INFO
                           : v1::LogLine::WARNING,
                absl::StrCat("attempt ", number, " ended: ", FailureReasonName(failure.reason()),
                             failure.message().empty() ? "" : ": ", failure.message()),
                number, now);
  const int32_t max_retries = job.spec().max_retries();
  std::string how;
  if (own_fault) {
    const int used = RetriesUsed(job);
    if (used > max_retries) {
      Fail(job, failure, now, records);
      return;
    }
    how = absl::StrCat("retry ", used, " of ", max_retries);
  } else {
    const int losses = LossesInARow(job);
    if (losses > kMaxLossesInARow && !job.has_pause_request_time()) {
      v1::Failure last = failure;
      last.set_message(absl::StrCat(failure.message(), failure.message().empty() ? "" : " ",
                                    "This happened ", losses,
                                    " times in a row without a new checkpoint: submit the job "
                                    "again with checkpoint.every_steps set, "
                                    "on a server that stays up longer"));
      Fail(job, last, now, records);
      return;
    }
    how = "does not use up a retry";
  }
  records.push_back(log);
  const int64_t step = FindLastCheckpoint(job).step;
  // The lost attempt's speed and last values say nothing about the next one.
  v1::Progress& progress = *job.mutable_progress();
  progress.set_step(step);
  progress.clear_examples_per_second();
  progress.clear_latest_metrics();
  if (step == 0) {
    progress.set_epoch(0);
  }
  const std::string from = absl::StrCat(
      "the next attempt starts from ",
      step == 0 ? std::string("the beginning") : absl::StrCat("the checkpoint at step ", step));
  if (job.has_pause_request_time()) {
    // Also after a crash: what is lost is repeated, and a person wants the job to rest.
    ChangeState(job, v1::Job::PAUSED, absl::StrCat("paused; ", from), failure.reason(), now,
                records);
    return;
  }
  ChangeState(job, v1::Job::QUEUED,
              absl::StrCat("queued again after ", FailureReasonName(failure.reason()), " (", how,
                           "); ", from),
              failure.reason(), now, records);
}

absl::Status CheckCurrent(const v1::Job& job, int32_t attempt) {
  if (!IsCurrentAttempt(job, attempt)) {
    return AttemptSuperseded(job, attempt);
  }
  return absl::OkStatus();
}

}  // namespace

void InitializeQueued(v1::Job& job, absl::Time now, std::vector<v1::Segment>& records) {
  if (!job.has_create_time()) {
    *job.mutable_create_time() = ToTimestamp(now);
  }
  job.clear_result();
  job.clear_failure();
  job.clear_attempts();
  job.clear_start_time();
  job.clear_end_time();
  job.clear_cancel_request_time();
  job.clear_pause_request_time();
  job.clear_last_sequence();
  job.clear_queue_time();
  job.clear_waited_seconds();
  ChangeState(job, v1::Job::QUEUED, "accepted", v1::FailureReason::FAILURE_REASON_UNSPECIFIED, now,
              records);
}

absl::Status BeginAttempt(v1::Job& job,
                          absl::Span<const int> cores,
                          int64_t memory_bytes,
                          int64_t start_step,
                          absl::Time now,
                          std::vector<v1::Segment>& records,
                          absl::string_view placement) {
  if (job.state() != v1::Job::QUEUED) {
    return IllegalTransition(job, "begin an attempt of", "QUEUED");
  }
  const int32_t number = job.attempts().empty() ? 1 : job.attempts().rbegin()->number() + 1;
  v1::Attempt& attempt = *job.add_attempts();
  attempt.set_number(number);
  attempt.set_state(v1::Attempt::STARTING);
  *attempt.mutable_start_time() = ToTimestamp(now);
  attempt.mutable_cores()->Add(cores.begin(), cores.end());
  attempt.set_memory_bytes(memory_bytes);
  attempt.set_start_step(start_step);
  std::string message = absl::StrCat("attempt ", number);
  attempt.set_placement(std::string(placement));
  if (!placement.empty()) {
    absl::StrAppend(&message, " in ", placement);
  } else if (!cores.empty()) {
    absl::StrAppend(&message, " on core", cores.size() == 1 ? " " : "s ",
                    absl::StrJoin(cores, ","));
  }
  if (start_step > 0) {
    absl::StrAppend(&message, ", from the checkpoint at step ", start_step);
  }
  ChangeState(job, v1::Job::STARTING, message, v1::FailureReason::FAILURE_REASON_UNSPECIFIED, now,
              records);
  return absl::OkStatus();
}

absl::Status MarkRunning(v1::Job& job,
                         int32_t attempt,
                         absl::Time now,
                         std::vector<v1::Segment>& records) {
  if (absl::Status current = CheckCurrent(job, attempt); !current.ok()) {
    return current;
  }
  if (job.state() == v1::Job::RUNNING) {
    return absl::OkStatus();
  }
  if (job.state() != v1::Job::STARTING) {
    return IllegalTransition(job, "mark as running", "STARTING");
  }
  job.mutable_attempts()->rbegin()->set_state(v1::Attempt::RUNNING);
  if (!job.has_start_time()) {
    *job.mutable_start_time() = ToTimestamp(now);
  }
  ChangeState(job, v1::Job::RUNNING, absl::StrCat("attempt ", attempt),
              v1::FailureReason::FAILURE_REASON_UNSPECIFIED, now, records);
  return absl::OkStatus();
}

absl::Status RequestCancel(v1::Job& job, absl::Time now, std::vector<v1::Segment>& records) {
  switch (job.state()) {
    case v1::Job::QUEUED:
    case v1::Job::PAUSED:
      *job.mutable_cancel_request_time() = ToTimestamp(now);
      ChangeState(job, v1::Job::CANCELLED,
                  job.state() == v1::Job::QUEUED ? "cancelled while it waited"
                                                 : "cancelled while it was paused",
                  v1::FailureReason::FAILURE_REASON_UNSPECIFIED, now, records);
      return absl::OkStatus();
    case v1::Job::STARTING:
    case v1::Job::RUNNING:
      if (!job.has_cancel_request_time()) {
        *job.mutable_cancel_request_time() = ToTimestamp(now);
        job.clear_pause_request_time();
        records.push_back(LogRecord(v1::LogLine::INFO,
                                    "cancellation requested; ends after the current step", 0, now));
      }
      return absl::OkStatus();
    case v1::Job::CANCELLED:
      return absl::OkStatus();
    default:
      return IsTerminal(job.state())
                 ? AlreadyTerminal(job)
                 : IllegalTransition(job, "cancel", "QUEUED, STARTING, RUNNING or PAUSED");
  }
}

absl::Status RequestPause(v1::Job& job, absl::Time now, std::vector<v1::Segment>& records) {
  switch (job.state()) {
    case v1::Job::QUEUED:
      ChangeState(job, v1::Job::PAUSED, "paused while it waited",
                  v1::FailureReason::FAILURE_REASON_UNSPECIFIED, now, records);
      return absl::OkStatus();
    case v1::Job::STARTING:
    case v1::Job::RUNNING:
      if (job.has_cancel_request_time()) {
        return IllegalTransition(job, "pause", "not being cancelled, which this job is");
      }
      if (!job.has_pause_request_time()) {
        *job.mutable_pause_request_time() = ToTimestamp(now);
        records.push_back(LogRecord(
            v1::LogLine::INFO,
            "pause requested; takes effect with a checkpoint after the current step", 0, now));
      }
      return absl::OkStatus();
    case v1::Job::PAUSED:
      return absl::OkStatus();
    default:
      return IsTerminal(job.state())
                 ? AlreadyTerminal(job)
                 : IllegalTransition(job, "pause", "QUEUED, STARTING or RUNNING");
  }
}

absl::Status RequestResume(v1::Job& job, absl::Time now, std::vector<v1::Segment>& records) {
  if (job.state() == v1::Job::PAUSED) {
    const int64_t step = FindLastCheckpoint(job).step;
    ChangeState(
        job, v1::Job::QUEUED,
        step == 0
            ? std::string("resumed")
            : absl::StrCat("resumed; the next attempt starts from the checkpoint at step ", step),
        v1::FailureReason::FAILURE_REASON_UNSPECIFIED, now, records);
    return absl::OkStatus();
  }
  if (IsActive(job.state()) && job.has_pause_request_time()) {
    job.clear_pause_request_time();
    records.push_back(LogRecord(v1::LogLine::INFO, "the pause was taken back", 0, now));
    return absl::OkStatus();
  }
  return IsTerminal(job.state()) ? AlreadyTerminal(job)
                                 : IllegalTransition(job, "resume", "PAUSED or pausing");
}

absl::Status CheckDeletable(const v1::Job& job, bool force) {
  if (force || IsTerminal(job.state()) || job.state() == v1::Job::PAUSED) {
    return absl::OkStatus();
  }
  return JobNotDeletable(job);
}

absl::Status FinishAttempt(v1::Job& job,
                           int32_t attempt,
                           const v1::Outcome& outcome,
                           absl::Time now,
                           std::vector<v1::Segment>& records) {
  if (absl::Status current = CheckCurrent(job, attempt); !current.ok()) {
    return current;
  }
  switch (outcome.state()) {
    case v1::Job::SUCCEEDED:
    case v1::Job::DIVERGED: {
      EndAttempt(job, nullptr, now);
      *job.mutable_result() = outcome.result();
      v1::Progress& progress = *job.mutable_progress();
      progress.set_step(std::max(progress.step(), outcome.result().steps()));
      const std::string message =
          outcome.state() == v1::Job::SUCCEEDED
              ? absl::StrCat("finished ", outcome.result().steps(), " steps")
              : absl::StrCat("a non-finite number appeared at step ", outcome.result().steps());
      ChangeState(job, outcome.state(), message, v1::FailureReason::FAILURE_REASON_UNSPECIFIED, now,
                  records);
      return absl::OkStatus();
    }
    case v1::Job::CANCELLED:
      EndAttempt(job, nullptr, now);
      ChangeState(
          job, v1::Job::CANCELLED,
          job.has_cancel_request_time() ? "cancelled" : "the worker was told to stop from outside",
          v1::FailureReason::FAILURE_REASON_UNSPECIFIED, now, records);
      return absl::OkStatus();
    case v1::Job::PAUSED: {
      v1::Failure reason = outcome.failure();
      if (reason.reason() == v1::FailureReason::FAILURE_REASON_UNSPECIFIED) {
        reason.set_reason(v1::FailureReason::PAUSED);
      }
      if (UsesUpRetry(reason.reason())) {
        return InvalidReport(
            absl::StrCat("outcome PAUSED for ", FailureReasonName(reason.reason())));
      }
      EndAttempt(job, &reason, now);
      FailOrRequeue(job, reason, now, records);
      return absl::OkStatus();
    }
    case v1::Job::FAILED:
      if (outcome.failure().reason() == v1::FailureReason::FAILURE_REASON_UNSPECIFIED) {
        return InvalidReport("outcome FAILED without a reason");
      }
      EndAttempt(job, &outcome.failure(), now);
      FailOrRequeue(job, outcome.failure(), now, records);
      return absl::OkStatus();
    default:
      return InvalidReport(
          absl::StrCat("outcome ", StateName(outcome.state()),
                       " is not SUCCEEDED, DIVERGED, CANCELLED, FAILED or PAUSED"));
  }
}

absl::Status LoseAttempt(v1::Job& job,
                         int32_t attempt,
                         const v1::Failure& failure,
                         absl::Time now,
                         std::vector<v1::Segment>& records) {
  if (absl::Status current = CheckCurrent(job, attempt); !current.ok()) {
    return current;
  }
  if (failure.reason() == v1::FailureReason::FAILURE_REASON_UNSPECIFIED) {
    return InternalError("an attempt was lost without a reason");
  }
  EndAttempt(job, &failure, now);
  FailOrRequeue(job, failure, now, records);
  return absl::OkStatus();
}

absl::Status TakeBackAttempt(v1::Job& job,
                             int32_t attempt,
                             absl::string_view why,
                             absl::Time now,
                             std::vector<v1::Segment>& records) {
  if (absl::Status current = CheckCurrent(job, attempt); !current.ok()) {
    return current;
  }
  if (job.state() != v1::Job::STARTING) {
    return IllegalTransition(job, "take back an attempt of", "STARTING");
  }
  job.mutable_attempts()->RemoveLast();
  if (job.has_cancel_request_time()) {
    ChangeState(job, v1::Job::CANCELLED, "cancelled before it started",
                v1::FailureReason::FAILURE_REASON_UNSPECIFIED, now, records);
  } else if (job.has_pause_request_time()) {
    ChangeState(job, v1::Job::PAUSED, "paused before it started",
                v1::FailureReason::FAILURE_REASON_UNSPECIFIED, now, records);
  } else {
    ChangeState(
        job, v1::Job::QUEUED,
        absl::StrCat("could not be started, and is tried again (does not use up a retry): ", why),
        v1::FailureReason::NODE_FAILED, now, records);
  }
  return absl::OkStatus();
}

absl::Status FailDamaged(v1::Job& job,
                         const v1::Failure& failure,
                         absl::Time now,
                         std::vector<v1::Segment>& records) {
  if (IsTerminal(job.state())) {
    return AlreadyTerminal(job);
  }
  if (CurrentAttempt(job) != nullptr) {
    EndAttempt(job, &failure, now);
  }
  Fail(job, failure, now, records);
  return absl::OkStatus();
}

bool IsCurrentAttempt(const v1::Job& job, int32_t number) {
  const v1::Attempt* current = CurrentAttempt(job);
  return current != nullptr && current->number() == number;
}

const v1::Attempt* CurrentAttempt(const v1::Job& job) {
  if (job.attempts().empty() || !IsActive(job.state()) ||
      job.attempts().rbegin()->state() == v1::Attempt::ENDED) {
    return nullptr;
  }
  return &*job.attempts().rbegin();
}

int RetriesUsed(const v1::Job& job) {
  return static_cast<int>(
      std::count_if(job.attempts().begin(), job.attempts().end(), [](const v1::Attempt& attempt) {
        return attempt.has_failure() && UsesUpRetry(attempt.failure().reason());
      }));
}

LastCheckpoint FindLastCheckpoint(const v1::Job& job) {
  LastCheckpoint last;
  for (const v1::Attempt& attempt : job.attempts()) {
    if (attempt.checkpoint_step() > 0) {
      last = {attempt.checkpoint_step(), attempt.number()};
    }
  }
  return last;
}

v1::Segment LogRecord(v1::LogLine::Severity severity,
                      absl::string_view text,
                      int32_t attempt,
                      absl::Time now) {
  v1::Segment segment;
  v1::LogLine& line = *segment.mutable_log();
  *line.mutable_time() = ToTimestamp(now);
  line.set_severity(severity);
  line.set_text(std::string(text));
  line.set_attempt(attempt);
  return segment;
}

}  // namespace normlab::server
