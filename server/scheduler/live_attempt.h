#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "server/scheduler/controller.h"
#include "server/scheduler/policy.h"

#include "normlab/v1/job.pb.h"

namespace normlab::server {

// Where an attempt stands in the controller's eyes.
enum class Phase {
  kBeginning,  // its row is being committed
  kPreparing,  // the helper looks at its data set
  kStarting,   // its process was asked for, or runs, and has not said hello
  kAdopting,   // its process outlived an earlier server and has not said hello to this one
  kRunning,    // it said hello; may be reconnecting
  kKilled,     // it was killed; its exit has not been told yet
  kDraining,   // its process is gone; its last reports may still be on their way through the server
  kEnding,     // its loss is being committed
  kEnded,  // over in the store; its process may live for a moment yet, and holds the reservation
};

// An attempt that is not over, or whose process is not. Belongs to the controller's thread.
struct LiveAttempt {
  AttemptKey key;
  Reservation reservation;
  Phase phase = Phase::kBeginning;
  // When the phase has lasted too long; monotonic.
  absl::Duration phase_deadline = absl::InfiniteDuration();

  std::string secret;  // until the launch
  std::string secret_sha256;
  std::string resume_folder;  // checkpoint to start from, relative to the work folder; empty: none
  v1::Job job;                // as it was when the attempt began or was adopted
  bool is_running = false;    // the store has it as RUNNING

  int preparations = 0;   // so far; the helper may have failed
  int postponed = 0;      // how often its job was, in a row
  int data_failures = 0;  // how often its data could not be got ready, in a row

  // Since when it has held its cores, as far as that was measured; monotonic.
  std::optional<absl::Duration> held_since;
  bool counted = false;     // its cores count as held by its owner
  bool recovering = false;  // of an earlier server; how it came through is not told yet
  bool has_process = false;
  bool submitting = false;  // the executor has not answered yet
  // It was handed over, and for all that is known does not run yet: no time of its own counts.
  bool waits_outside = false;
  bool place_known = false;      // where it runs has been noted
  std::string outside_reason{};  // for what, in the words of whom it waits for
  std::string data_cache{};  // that it is going to open; empty: not known (of an earlier server)
  bool said_hello = false;
  bool is_mute = false;                    // it was ended because it did not say hello in time
  std::shared_ptr<WorkerSession> session;  // null while not connected
  absl::Duration heard_at;  // while not connected: when it was heard of last; monotonic

  bool cancel_requested = false;
  bool pause_requested = false;  // may be taken back
  absl::Duration cancel_deadline = absl::InfiniteDuration();
  absl::Duration time_limit_deadline = absl::InfiniteDuration();

  std::optional<v1::Failure> failure;  // why the controller ended it; else its exit tells
  std::optional<ProcessExit> exit;
  int kills = 0;  // of a process that stays after its attempt's end
};

}  // namespace normlab::server
