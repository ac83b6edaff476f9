#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "server/store/store.h"

#include "normlab/v1/worker.pb.h"

namespace normlab::server {

struct LaunchRequest {
  AttemptKey attempt;
  v1::WorkerAssignment assignment;
  std::string log_path;  // stdout and stderr of the worker are appended there
};

// How an attempt's process ended, as far as the machine can tell.
struct ProcessExit {
  AttemptKey attempt;
  bool by_signal = false;
  int code = -1;  // exit code (see common/worker_exit.h) or signal; -1: unknown (adopted process)
  std::string description;         // "exit code 3", "signal 9 (Killed)"
  bool killed_for_memory = false;  // ended by the kernel for want of memory
  int64_t peak_memory_bytes = 0;   // resident at most; 0: unknown
};

// What the processes of attempts use, for monitoring.
struct WorkerUsage {
  int processes = 0;  // that run now
  double cpu_seconds =
      0;  // since the executor began, of those that have ended as well: never falls
  int64_t resident_bytes = 0;
};

// Runs attempts as processes somewhere. Knows processes, nothing of jobs' states: the controller
// decides. Implementations are thread-safe; calls may block for some milliseconds.
class Executor {
 public:
  // Called once per started or adopted attempt after its process ended, on a thread of the
  // executor, possibly before Launch returned; must not block.
  using ExitCallback = std::function<void(const ProcessExit&)>;

  virtual ~Executor() = default;

  // Before the first Launch or Adopt. Empty: exits are not told any more; returns when the old one
  // is not running.
  virtual void SetExitCallback(ExitCallback callback) = 0;
  // Starts the worker of an attempt and hands it the assignment through an inherited pipe. Returns
  // its identity in a form that Adopt understands after a restart of the server.
  virtual absl::StatusOr<std::string> Launch(const LaunchRequest& request) = 0;
  // Takes over a process that an earlier server started; answers for how long it has run, on a clock
  // that nobody sets. NOT_FOUND: it is gone.
  virtual absl::StatusOr<absl::Duration> Adopt(const AttemptKey& attempt,
                                               const std::string& identity) = 0;
  // Ends the attempt's process without asking it (SIGKILL); the exit is told as usual. OK when it
  // is gone.
  virtual absl::Status Kill(const AttemptKey& attempt) = 0;
  // As of now; costs some microseconds a process.
  virtual WorkerUsage GetUsage() { return {}; }
};

}  // namespace normlab::server
