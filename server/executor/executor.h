#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

#include "server/store/store.h"

#include "normlab/v1/worker.pb.h"

// The contract between the controller, which decides, and whatever runs attempts: this machine
// (local_process.h), a Slurm cluster (slurm_executor.h), nothing at all (fake_executor.h, for tests). What
// is promised here is tried on all three by executor_conformance_test.cc.
namespace normlab::server {

struct SubmitRequest {
  AttemptKey attempt;
  v1::WorkerAssignment assignment;
  std::string log_path;  // stdout and stderr of the worker are appended there
  // Attempts of one group are alike, as those of a sweep are, and may be handed over together; empty:
  // on its own.
  std::string group{};
};

// Why an attempt's process is not there any more.
enum class ExitCause {
  kExited,            // by itself, with `code`
  kSignalled,         // by signal `code`; ours, or one of a crash
  kOutOfMemory,       // ended for using too much memory
  kPreempted,         // for something more important
  kNodeFailed,        // its machine died or was taken away
  kTimeLimit,         // of whatever runs it, not of Normlab
  kCancelledOutside,  // by a person or program that is not this server
  kRefused,           // was never run, and asking again would not help
  kUnknown,           // it is gone, and nobody knows why
};

absl::string_view ExitCauseName(ExitCause cause);

struct ProcessExit {
  AttemptKey attempt;
  ExitCause cause = ExitCause::kExited;
  int code = -1;  // exit code (see common/worker_exit.h) or signal; -1: unknown (adopted process)
  // In the words of what ran it: "exit code 3", "signal 9 (Killed)", "Slurm job 17 on n1: NODE_FAIL".
  std::string description;
  int64_t peak_memory_bytes = 0;  // resident at most, of its largest process; 0: unknown
};

// What an executor can do, fixed for its life.
struct ExecutorCapabilities {
  // For people: "this machine", "Slurm".
  std::string name = "this machine";
  // Who decides where and when an attempt runs. false: the server, by the cores and memory that it
  // reserves. true: the executor has its own; the server's policy only orders what is handed over, of
  // which there are `max_attempts` at a time.
  bool places = false;
  int max_attempts = 0;
  // Whether a submitted attempt may wait for long before it runs (Observe then says for what), so that
  // time counts from when it does.
  bool may_wait = false;
  // Whether attempts that have no stored identity are found again by what they are (Reconcile).
  bool finds_unrecorded = false;
  // Whether attempts go on and come back by themselves when the server is stopped; else a server that
  // stops has them write a checkpoint and end.
  bool outlives_server = false;
  // How old what Observe says may be.
  absl::Duration staleness = absl::ZeroDuration();
};

enum class AttemptSignal {
  kCheckpoint,  // write a checkpoint and end (SIGUSR1)
  kStop,        // end after the current step, without one (SIGTERM)
  kKill,        // end at once, without being asked
};

// What an executor knows of one attempt.
struct AttemptView {
  enum class State {
    kGone,     // no process, and there will be none
    kWaiting,  // will run some time: see `reason`
    kRunning,
    kUnknown,  // what runs it does not answer; it is kept an eye on
  };
  AttemptKey attempt;
  State state = State::kGone;
  // As Submit answered it; also when it was found without.
  std::string identity{};
  // kWaiting and kUnknown: why; kGone: what became of it. For people.
  std::string reason{};
  // kRunning: for how long, on a clock that nobody sets as far as there is one.
  absl::Duration running_for = absl::ZeroDuration();
  // kRunning: where, for people ("Slurm job 17 on n1"); empty: here.
  std::string place{};
  // kGone: how it ended, when that is still known.
  std::optional<ProcessExit> exit{};
};

// What the processes of attempts use, for monitoring.
struct WorkerUsage {
  int processes = 0;  // that run now
  double cpu_seconds =
      0;  // since the executor began, of those that have ended as well: never falls
  int64_t resident_bytes = 0;
};

// Runs attempts as processes somewhere. Knows processes, nothing of jobs' states: the controller
// decides. An attempt is one (job, number), submitted once; its worker proves itself with the secret of
// its assignment, which goes by no argument, no environment variable and no file that others can read.
//
// Thread-safe. No call blocks for longer than some milliseconds, but Reconcile. Whatever an executor
// tells, it tells by callbacks on threads of its own; those must not block.
class Executor {
 public:
  // Called once per submitted or reconciled attempt after its process ended, or when it turns out that
  // it will never run; after the answer to its Submit.
  using ExitCallback = std::function<void(const ProcessExit&)>;
  // The attempt's identity, in a form that Reconcile understands after a restart of the server.
  // INVALID_ARGUMENT: this attempt is refused for good, with the words of who refuses it.
  // RESOURCE_EXHAUSTED of one that places: a limit is reached, and others may be taken. Any other error is
  // not the attempt's fault. No process is left by an error, and no exit is told.
  using SubmitCallback = absl::AnyInvocable<void(absl::StatusOr<std::string>) &&>;

  virtual ~Executor() = default;

  virtual ExecutorCapabilities capabilities() const { return {}; }

  // Before the first Submit or Reconcile. Empty: exits are not told any more; returns when the old one
  // is not running.
  virtual void SetExitCallback(ExitCallback callback) = 0;

  // Has the attempt run. `done` is called once: before Submit returns, on its thread, where that takes no
  // time; else later, on a thread of the executor (never, when that is destroyed before). Idempotent:
  // asked again for an attempt that is there, it answers that one's identity and starts nothing, also
  // when the answer to the first call was lost.
  virtual void Submit(SubmitRequest request, SubmitCallback done) = 0;

  // What is known of these attempts, in their order, from one look at all of them that is no older than
  // capabilities().staleness. Attempts that were never submitted or reconciled here, and those whose exit
  // was told, are kGone.
  virtual std::vector<AttemptView> Observe(absl::Span<const AttemptKey> attempts) = 0;

  // At the start of a server: takes over the attempts of an earlier one, and answers what became of each,
  // in their order. Those that are not kGone are watched from now on: their exits are told. An empty
  // identity was never stored: such an attempt is looked for where capabilities().finds_unrecorded, and
  // kGone elsewhere. May take some seconds; kUnknown when what runs them does not answer by then.
  struct KnownAttempt {
    AttemptKey attempt;
    std::string identity{};
  };
  virtual std::vector<AttemptView> Reconcile(std::vector<KnownAttempt> attempts) = 0;

  // Asks or makes the attempt's process end, its exit is told as usual. An attempt that waits to run will
  // not, whatever the signal. OK when it is gone, and when the signal is on its way.
  virtual absl::Status Signal(const AttemptKey& attempt, AttemptSignal signal) = 0;

  // As of now; costs some microseconds a process.
  virtual WorkerUsage GetUsage() { return {}; }

  // Whether what runs the attempts answers: UNAVAILABLE, with its own words and what to do.
  virtual absl::Status Health() { return absl::OkStatus(); }
};

}  // namespace normlab::server
