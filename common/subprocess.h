#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

#include "common/unique_fd.h"

namespace normlab::common {

// Which process is meant, so that a number that was given to another process since is never
// signalled: boot, pid namespace, pid and start time together are unique.
struct ProcessIdentity {
  std::string boot_id;
  std::string pid_namespace;
  int32_t pid = 0;
  uint64_t start_ticks = 0;  // since boot, field 22 of /proc/<pid>/stat

  // "boot_id/pid_namespace/pid/start_ticks".
  std::string ToString() const;
  static absl::StatusOr<ProcessIdentity> Parse(absl::string_view text);
  // NOT_FOUND: no such process.
  static absl::StatusOr<ProcessIdentity> Of(pid_t pid);

  // How long ago the process was started, on a clock that nobody sets; of one of this boot. To a
  // hundredth of a second.
  absl::Duration Age() const;
};

struct SubprocessOptions {
  std::vector<std::string> argv;         // argv[0] is the path of the program
  std::vector<std::string> environment;  // NAME=VALUE, the complete environment
  int inherited_fd = -1;                 // becomes descriptor 3 of the child; -1: none
  int input_fd = -1;                     // becomes stdin of the child; -1: /dev/null
  std::string output_path;               // stdout and stderr are appended there; empty: inherited
  std::vector<int> cores;                // affinity of the child; empty: inherited
};

// A running process and its pidfd; poll(pidfd) for POLLIN tells that it ended. Destroying the
// object neither ends nor waits for the process. Movable; thread-safe except for the destructor and
// moves.
class Subprocess {
 public:
  // A handle on a child started in a session of its own (signals of our terminal do not reach it),
  // and no descriptor of ours but those named. INTERNAL, with the
  // reason, when it cannot be started.
  static absl::StatusOr<Subprocess> Start(const SubprocessOptions& options);

  // A handle on a process that need not be our child. NOT_FOUND when it is gone or its number is
  // another process's now.
  static absl::StatusOr<Subprocess> Adopt(const ProcessIdentity& identity);

  const ProcessIdentity& identity() const { return identity_; }
  pid_t pid() const { return identity_.pid; }
  int pidfd() const { return pidfd_.get(); }

  // Sends a signal; OK also when the process is gone.
  absl::Status Signal(int signal) const;
  bool HasEnded() const;
  // Reaps an ended child. A sentence such as "exit code 3" or "signal 9 (Killed)"; for an adopted
  // process, whose status only its parent learns, "ended".
  struct Exit {
    bool by_signal = false;
    int code = 0;                   // exit code, or number of the signal; -1: unknown
    int64_t peak_memory_bytes = 0;  // resident at most; 0: unknown
    double cpu_seconds = 0;         // user and system, all threads; 0: unknown
    std::string ToString() const;
  };
  // FAILED_PRECONDITION while it still runs.
  absl::StatusOr<Exit> Reap() const;

  // What the process uses, as /proc has it.
  struct Usage {
    double cpu_seconds = 0;  // user and system, all threads, since it began
    int64_t resident_bytes = 0;
  };
  // NOT_FOUND: it is gone.
  absl::StatusOr<Usage> GetUsage() const;
  // The same together with the processes that its main thread started and that run now, as mpirun
  // does; not with theirs.
  absl::StatusOr<Usage> GetUsageWithChildren() const;

 private:
  Subprocess(ProcessIdentity identity, UniqueFd pidfd, bool is_child)
      : identity_(std::move(identity)), pidfd_(std::move(pidfd)), is_child_(is_child) {}

  ProcessIdentity identity_;
  UniqueFd pidfd_;
  bool is_child_;
};

}  // namespace normlab::common
