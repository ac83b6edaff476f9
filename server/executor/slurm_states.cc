#include "server/executor/slurm_states.h"

#include <signal.h>
#include <string.h>

#include <algorithm>
#include <array>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "common/worker_exit.h"
#include "server/executor/slurm_reasons.h"

namespace normlab::server {
namespace {

std::string Where(const SlurmRecord& record) {
  return absl::StrCat("Slurm job ", record.Id(),
                      record.nodes.empty() ? "" : absl::StrCat(" on ", record.nodes));
}

// "Slurm job 17 on n2: NODE_FAIL (reason)".
std::string Words(const SlurmRecord& record) {
  const bool has_reason = !record.reason.empty() && record.reason != "None";
  return absl::StrCat(Where(record), ": ", record.state,
                      has_reason ? absl::StrCat(" (", record.reason, ")") : "");
}

// What srun and shells add to the number of the signal that ended a process. No worker ends itself with
// such a code but kExitTerminated.
constexpr int kShellSignal = 128;

// Slurm's number for a job whose folder or log cannot be opened on the node; no signal.
constexpr int kCannotOpenFiles = 53;

// Slurm's reasons for ending a job that it never started.
bool NeverStarted(const SlurmRecord& record) {
  return record.nodes.empty() && record.state == "FAILED";
}

}  // namespace

std::optional<ProcessExit> ExitOf(const SlurmRecord& record, bool killed) {
  ProcessExit exit;
  exit.description = Words(record);
  // "CANCELLED by 0" and the like.
  const absl::string_view state =
      absl::string_view(record.state).substr(0, record.state.find_first_of(" +"));
  if (state == "PENDING" || state == "RUNNING" || state == "COMPLETING" || state == "CONFIGURING" ||
      state == "SUSPENDED" || state == "STOPPED" || state == "SIGNALING" || state == "STAGE_OUT" ||
      state == "REQUEUED" || state == "REQUEUE_HOLD" || state == "REQUEUE_FED" ||
      state == "RESIZING" || state == "SPECIAL_EXIT" || state == "RESV_DEL_HOLD") {
    return std::nullopt;
  }
  if (killed && state == "CANCELLED") {
    exit.cause = ExitCause::kSignalled;
    exit.code = SIGKILL;
    exit.description = absl::StrCat("signal 9 (Killed; ", Words(record), ")");
  } else if (state == "COMPLETED") {
    exit.cause = ExitCause::kExited;
    exit.code = 0;
    exit.description = absl::StrCat("exit code 0 (", Where(record), ")");
  } else if (state == "FAILED" && NeverStarted(record)) {
    exit.cause = ExitCause::kRefused;
  } else if (state == "FAILED" && record.exit_signal == kCannotOpenFiles) {
    exit.cause = ExitCause::kNodeFailed;
    exit.description =
        absl::StrCat("it could not open its files there: is the work folder mounted on ",
                     record.nodes, "? ", Words(record));
  } else if (state == "FAILED" && record.exit_signal != 0) {
    const char* name = sigdescr_np(record.exit_signal);
    exit.cause = ExitCause::kSignalled;
    exit.code = record.exit_signal;
    exit.description = absl::StrCat("signal ", record.exit_signal, " (",
                                    name != nullptr ? name : "unknown", "; ", Where(record), ")");
  } else if (state == "FAILED" && record.exit_code == common::kExitRunAgain) {
    // Its controller died before it had noted that the job runs, and started it anew. Who ran first is
    // gone, or will be refused.
    exit.cause = ExitCause::kNodeFailed;
    exit.description = absl::StrCat("Slurm ran it a second time; ", Words(record));
  } else if (const int signal = record.exit_code - kShellSignal;
             state == "FAILED" && signal > 0 && signal < NSIG &&
             record.exit_code != common::kExitTerminated) {
    const char* name = sigdescr_np(signal);
    exit.cause = ExitCause::kSignalled;
    exit.code = signal;
    exit.description = absl::StrCat("signal ", signal, " of a process (",
                                    name != nullptr ? name : "unknown", "; ", Where(record), ")");
  } else if (state == "FAILED") {
    exit.cause = ExitCause::kExited;
    exit.code = record.exit_code;
    exit.description = absl::StrCat("exit code ", record.exit_code, " (", Words(record), ")");
  } else if (state == "OUT_OF_MEMORY") {
    exit.cause = ExitCause::kOutOfMemory;
  } else if (state == "PREEMPTED") {
    exit.cause = ExitCause::kPreempted;
  } else if (state == "NODE_FAIL" || state == "BOOT_FAIL" || state == "LAUNCH_FAILED" ||
             state == "RECONFIG_FAIL") {
    exit.cause = ExitCause::kNodeFailed;
  } else if (state == "TIMEOUT" || state == "DEADLINE") {
    exit.cause = ExitCause::kTimeLimit;
  } else if (state == "CANCELLED" || state == "REVOKED") {
    exit.cause = ExitCause::kCancelledOutside;
  } else {
    exit.cause = ExitCause::kUnknown;
  }
  return exit;
}

AttemptView ViewOf(const SlurmRecord& record, absl::Time now) {
  AttemptView view;
  const bool runs = record.state == "RUNNING" || record.state == "COMPLETING" ||
                    record.state == "SUSPENDED" || record.state == "STOPPED" ||
                    record.state == "SIGNALING" || record.state == "STAGE_OUT" ||
                    record.state == "RESIZING";
  if (runs) {
    view.state = AttemptView::State::kRunning;
    view.running_for = std::max(now - std::min(record.start, now), absl::ZeroDuration());
    view.place = Where(record);
  } else {
    view.state = AttemptView::State::kWaiting;
    view.reason = record.reason.empty() || record.reason == "None" ? record.state
                                                                   : ReasonForPeople(record.reason);
  }
  return view;
}

bool IsLimit(absl::string_view errors) {
  constexpr std::array<absl::string_view, 4> kLimits = {
      "temporarily unable to accept job", "job submit limit", "Job violates accounting/QOS policy",
      "MaxJobCount"};
  return std::any_of(kLimits.begin(), kLimits.end(), [errors](absl::string_view words) {
    return absl::StrContains(errors, words);
  });
}

bool IsTransientRefusal(absl::string_view errors) {
  // What Slurm 22.05 to 24.11 print (slurm_errno.c).
  constexpr std::array<absl::string_view, 15> kTransient = {
      "Unable to contact slurm controller",
      "Socket timed out",
      "Connection refused",
      "Connection timed out",
      "Connection reset",
      "Zero Bytes were transmitted",
      "Communication connection failure",
      "Transport endpoint is not connected",
      "Resource temporarily unavailable",
      "standby mode",
      "Slurm controller not responding",
      "rejecting connections",
      "Protocol authentication error",
      "Munge encode failed",
      "Unable to establish configuration source"};
  return std::any_of(kTransient.begin(), kTransient.end(), [errors](absl::string_view words) {
    return absl::StrContains(errors, words);
  });
}

}  // namespace normlab::server
