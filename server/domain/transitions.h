#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

#include "normlab/v1/job.pb.h"
#include "normlab/v1/records.pb.h"
#include "normlab/v1/worker.pb.h"

// The job's state machine, as pure functions for use inside Store::UpdateJob. Each edits the job
// and appends the records (state changes, log lines) that tell of it; a non-OK status leaves both
// as they were. FAILED_PRECONDITION: the state does not allow it, with what is allowed. Thread-safe
// (no state of their own). `now` is the wall clock.
namespace normlab::server {

// In a row without a new checkpoint; then the job fails for good.
inline constexpr int kMaxLossesInARow = 10;

// Makes `job` a fresh QUEUED one: output fields cleared, create_time set unless given. For
// Store::CreateJob, which calls it: callers of the store need not.
void InitializeQueued(v1::Job& job, absl::Time now, std::vector<v1::Segment>& records);

// QUEUED -> STARTING; adds the next attempt. `start_step` is that of the checkpoint it resumes
// from, 0: the beginning. `placement`: who finds a place for it, as "Slurm", in which case the cores only
// count; empty: they are this machine's.
absl::Status BeginAttempt(v1::Job& job,
                          absl::Span<const int> cores,
                          int64_t memory_bytes,
                          int64_t start_step,
                          absl::Time now,
                          std::vector<v1::Segment>& records,
                          absl::string_view placement = "");

// STARTING -> RUNNING, at the worker's hello. Already RUNNING under the same attempt (it
// reconnected): OK, no change. FAILED_PRECONDITION (ATTEMPT_SUPERSEDED): the fence.
absl::Status MarkRunning(v1::Job& job,
                         int32_t attempt,
                         absl::Time now,
                         std::vector<v1::Segment>& records);

// QUEUED and PAUSED -> CANCELLED at once. STARTING and RUNNING: sets cancel_request_time (again: no
// change) and drops a pause that was asked for. CANCELLED: OK, no change. Otherwise
// FAILED_PRECONDITION (JOB_TERMINAL).
absl::Status RequestCancel(v1::Job& job, absl::Time now, std::vector<v1::Segment>& records);

// QUEUED -> PAUSED at once. STARTING and RUNNING: sets pause_request_time (again: no change); the end
// of the attempt, however it comes, makes the job PAUSED. PAUSED: OK, no change.
// FAILED_PRECONDITION: it is being cancelled (ILLEGAL_TRANSITION), or terminal (JOB_TERMINAL).
absl::Status RequestPause(v1::Job& job, absl::Time now, std::vector<v1::Segment>& records);

// PAUSED -> QUEUED. STARTING and RUNNING with a pause that has not taken effect: takes it back; an
// attempt that was told to stop already ends all the same, and the job is QUEUED again then.
// FAILED_PRECONDITION (ILLEGAL_TRANSITION, JOB_TERMINAL): neither.
absl::Status RequestResume(v1::Job& job, absl::Time now, std::vector<v1::Segment>& records);

// OK when the job may be deleted: terminal, PAUSED, or any with `force`. Otherwise
// FAILED_PRECONDITION (ILLEGAL_TRANSITION).
absl::Status CheckDeletable(const v1::Job& job, bool force);

// The worker's own outcome: SUCCEEDED and DIVERGED with a result, CANCELLED, or FAILED, after which
// the job is QUEUED again while it has retries left. PAUSED (ended after a checkpoint, as asked):
// CANCELLED or PAUSED if that is wished, else QUEUED again. INVALID_ARGUMENT (INVALID_REPORT): any
// other state, FAILED without a reason, PAUSED with a reason that is a fault.
absl::Status FinishAttempt(v1::Job& job,
                           int32_t attempt,
                           const v1::Outcome& outcome,
                           absl::Time now,
                           std::vector<v1::Segment>& records);

// The attempt ended without an outcome. A cancellation that was asked for makes the job CANCELLED;
// a failure of its own (UsesUpRetry(failure.reason())) QUEUED while it has retries left;
// other reasons (SERVER_LOST, SERVER_DRAINED, ...) QUEUED up to kMaxLossesInARow times without a new
// checkpoint; else FAILED with `failure`. A job that is to pause becomes PAUSED instead of QUEUED. FAILED_PRECONDITION when the attempt is not the job's current one.
absl::Status LoseAttempt(v1::Job& job,
                         int32_t attempt,
                         const v1::Failure& failure,
                         absl::Time now,
                         std::vector<v1::Segment>& records);

// Ends a job, and its attempt if it has one, for good because something that is stored of it is
// damaged: FAILED with `failure`, whatever retries are left. FAILED_PRECONDITION (JOB_TERMINAL).
absl::Status FailDamaged(v1::Job& job,
                         const v1::Failure& failure,
                         absl::Time now,
                         std::vector<v1::Segment>& records);

// The fence: whether `number` is the job's last attempt and has not ended.
bool IsCurrentAttempt(const v1::Job& job, int32_t number);

// The current attempt; null when the job has none that lives.
const v1::Attempt* CurrentAttempt(const v1::Job& job);

// Attempts that ended by their own fault, so far.
int RetriesUsed(const v1::Job& job);

// The checkpoint to go on from: the last one that was committed by the last attempt that committed
// any, whatever earlier attempts reached (one that could not find their checkpoints began anew). Its
// step, 0: none; and the number of the attempt that wrote it.
struct LastCheckpoint {
  int64_t step = 0;
  int32_t attempt = 0;
};
LastCheckpoint FindLastCheckpoint(const v1::Job& job);

// A log record of the server itself about an attempt (0: none).
v1::Segment LogRecord(v1::LogLine::Severity severity,
                      absl::string_view text,
                      int32_t attempt,
                      absl::Time now);

}  // namespace normlab::server
