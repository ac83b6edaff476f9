#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"

#include "normlab/v1/job.pb.h"

namespace normlab::server {

// What happens to jobs, for whoever counts it (server/monitor does). The default does nothing, so
// that a component may always hold an Observer and never asks for null: see None(). Implementations
// are thread-safe, never block and never call back.
class Observer {
 public:
  virtual ~Observer() = default;

  // A job's state change was committed. `reason` is set when the new state is FAILED, or QUEUED
  // again after a lost attempt, else FAILURE_REASON_UNSPECIFIED.
  virtual void OnTransition(v1::Job::State state, v1::FailureReason::Kind reason) {
    (void)state;
    (void)reason;
  }
  // A job left the queue after waiting so long since it last entered it. [seconds]
  virtual void OnQueueWait(double seconds) { (void)seconds; }
  // An attempt's process was started.
  virtual void OnAttemptStarted() {}
  // An attempt is over. `state`: SUCCEEDED, DIVERGED, CANCELLED or FAILED, where FAILED comes with
  // the reason (also when the job itself is queued again).
  virtual void OnAttemptEnded(v1::Job::State state, v1::FailureReason::Kind reason) {
    (void)state;
    (void)reason;
  }
  // A worker's report was committed. `steps` steps on `examples` examples; their durations
  // [seconds]; `points`: new metric points stored.
  virtual void OnReport(int64_t steps,
                        int64_t examples,
                        absl::Span<const float> step_seconds,
                        int64_t points) {
    (void)steps;
    (void)examples;
    (void)step_seconds;
    (void)points;
  }
  // A connection or report of an attempt that is not its job's current one was refused.
  virtual void OnFenced() {}
  // Points that a resumed attempt repeated and that differed from the stored ones.
  virtual void OnReplayMismatch(int64_t points) { (void)points; }

  // A call was refused: UNAUTHENTICATED, PERMISSION_DENIED or RESOURCE_EXHAUSTED.
  virtual void OnCallRefused(absl::StatusCode code) { (void)code; }
  // The tokens file was read; `ok`: what it says is in force.
  virtual void OnTokensRead(bool ok) { (void)ok; }

  // An observer that ignores everything; lives for ever.
  static Observer& None() {
    static Observer none;
    return none;
  }
};

}  // namespace normlab::server
