#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"

#include "normlab/v1/job.pb.h"
#include "normlab/v1/spec.pb.h"

namespace normlab::server {

// How an unfinished job came through a restart of the server.
enum class Recovery {
  kQueued,       // it waited and goes on waiting
  kReconnected,  // its worker outlived the earlier server and reported to this one
  kRequeued,     // its worker was lost; it waits again, with its last checkpoint
  kEnded,   // its worker was lost, and cancellation or pause had been asked for: that is it now
  kFailed,  // it could not go on
};

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
  // How much memory the process of an attempt that ended had at most, and what was reserved for it.
  // [bytes]
  virtual void OnPeakMemory(int64_t peak, int64_t reserved) {
    (void)peak;
    (void)reserved;
  }
  // An unfinished job of an earlier server was taken up; once a job and start.
  virtual void OnRecovered(Recovery how) { (void)how; }
  // A worker's report was committed. `model`: which field of Model its network is; `steps` steps on
  // `examples` examples; their durations [seconds]; `points`: new metric points stored.
  virtual void OnReport(v1::Model::KindCase model,
                        int64_t steps,
                        int64_t examples,
                        absl::Span<const float> step_seconds,
                        int64_t points) {
    (void)model;
    (void)steps;
    (void)examples;
    (void)step_seconds;
    (void)points;
  }
  // A checkpoint that a worker had written in `seconds` was committed.
  virtual void OnCheckpoint(double seconds, int64_t bytes) {
    (void)seconds;
    (void)bytes;
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
