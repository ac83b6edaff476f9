#include "server/scheduler/failures.h"

#include <signal.h>

#include <algorithm>
#include <fstream>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "common/worker_exit.h"

namespace normlab::server {
namespace {

constexpr size_t kLogTailBytes = 1500;
constexpr int64_t kMiB = int64_t{1} << 20;

v1::Failure MakeFailure(v1::FailureReason::Kind reason, std::string message) {
  v1::Failure failure;
  failure.set_reason(reason);
  failure.set_message(std::move(message));
  return failure;
}

std::string Mebibytes(int64_t bytes) {
  return absl::StrFormat("%.1f MiB", static_cast<double>(bytes) / kMiB);
}

std::string WithLog(std::string message, const std::string& log_path) {
  const std::string tail = LogTail(log_path, kLogTailBytes);
  if (tail.empty()) {
    return absl::StrCat(message, " (its log ", log_path, " is empty)");
  }
  return absl::StrCat(message, "; the last lines of ", log_path, ":\n", tail);
}

// Of an attempt that was ended neither by itself nor by us.
v1::Failure OutsideFailure(const ProcessExit& exit, const std::string& log_path) {
  switch (exit.cause) {
    case ExitCause::kPreempted:
      return MakeFailure(v1::FailureReason::PREEMPTED,
                         absl::StrCat("the attempt was ended for something more important (",
                                      exit.description, "); nothing needs to be done"));
    case ExitCause::kCancelledOutside:
      return MakeFailure(v1::FailureReason::PREEMPTED,
                         absl::StrCat("the attempt was cancelled, but not through Normlab (",
                                      exit.description, "); to end the job, use `normlab cancel`"));
    case ExitCause::kTimeLimit:
      return MakeFailure(
          v1::FailureReason::TIME_LIMIT_EXCEEDED,
          WithLog(absl::StrCat("the attempt was ended by a time limit that is not the job's own (",
                               exit.description,
                               ") before it had written a checkpoint. Raise slurm.time_limit, or "
                               "have checkpoints written more often"),
                  log_path));
    case ExitCause::kRefused:
      return SubmissionRefusedFailure(exit.description);
    case ExitCause::kNodeFailed:
      return MakeFailure(v1::FailureReason::NODE_FAILED,
                         absl::StrCat("whatever ran the attempt has lost it (", exit.description,
                                      "); nothing needs to be done"));
    default:
      return MakeFailure(v1::FailureReason::NODE_FAILED,
                         WithLog(absl::StrCat("the attempt is gone, and nobody knows why (",
                                              exit.description, "); nothing needs to be done"),
                                 log_path));
  }
}

// Of several processes srun ends with code 1 when one of them used too much memory, and says so in the log
// only: "srun: error: n1: task 1: Out Of Memory".
bool SrunSaysOutOfMemory(const ProcessExit& exit, const std::string& log_path) {
  if (exit.cause != ExitCause::kExited || exit.code != 1) {
    return false;
  }
  const std::string tail = LogTail(log_path, kLogTailBytes);
  const size_t from = tail.find("srun: error: ");
  return from != std::string::npos && absl::StrContains(tail.substr(from), ": Out Of Memory");
}

}  // namespace

int64_t MemoryLimit(int64_t estimate_bytes) {
  // The limit counts address space: the stacks of gRPC's and OpenMP's threads in full (8 MiB each)
  // and the allocator's spare room, of which the estimate of resident memory holds only a part.
  constexpr int64_t kSmallestMargin = 256 * kMiB;
  return estimate_bytes + std::max(kSmallestMargin, estimate_bytes / 4);
}

v1::Failure ExitFailure(const ProcessExit& exit,
                        bool said_hello,
                        int64_t estimate_bytes,
                        const std::string& log_path) {
  const bool by_signal = exit.cause == ExitCause::kSignalled;
  const bool by_itself = exit.cause == ExitCause::kExited;
  if (exit.cause == ExitCause::kOutOfMemory ||
      (by_itself && exit.code == common::kExitOutOfMemory) || SrunSaysOutOfMemory(exit, log_path)) {
    std::string message = absl::StrCat("the worker ran out of memory (", exit.description,
                                       "): its estimate was ", Mebibytes(estimate_bytes),
                                       ", its limit ", Mebibytes(MemoryLimit(estimate_bytes)));
    if (exit.peak_memory_bytes > 0) {
      absl::StrAppend(&message, ", and it had ", Mebibytes(exit.peak_memory_bytes), " at most");
    }
    return MakeFailure(
        v1::FailureReason::OUT_OF_MEMORY,
        absl::StrCat(message,
                     ". Use a smaller batch_size or model, or give the server more memory"));
  }
  if (!by_signal && !by_itself) {
    return OutsideFailure(exit, log_path);
  }
  // Of an adopted process only its parent, the earlier server, could have learned more.
  // What is told of several processes is a sentence already.
  const std::string ended = exit.code < 0 ? "the worker ended"
                            : absl::StartsWith(exit.description, "a rank ended")
                                ? exit.description
                                : absl::StrCat("the worker ended with ", exit.description);
  const bool told_to_end =
      by_signal ? exit.code == SIGTERM
                : exit.code == common::kExitTerminated || exit.code == common::kExitRankTerminated;
  if (told_to_end) {
    return ServerLostFailure(absl::StrCat("the worker was told to end (", exit.description, ")"));
  }
  if (said_hello && by_itself && exit.code == common::kExitFenced) {
    // Whom the server does not want is not asked why it ended.
    return MakeFailure(
        v1::FailureReason::NODE_FAILED,
        WithLog("the folder of the attempt was not there any more (is the disk of the "
                "work folder mounted?)",
                log_path));
  }
  if (!said_hello && by_itself) {
    return MakeFailure(
        v1::FailureReason::WORKER_START_FAILED,
        WithLog(
            absl::StrCat(ended, " before it said hello. Submit the job again, or set max_retries"),
            log_path));
  }
  return MakeFailure(
      v1::FailureReason::WORKER_CRASHED,
      WithLog(absl::StrCat(ended,
                           ", and there is no result (max_retries of the spec says how often "
                           "it is tried again)"),
              log_path));
}

v1::Failure NotStartedFailure(const absl::Status& status) {
  return MakeFailure(v1::FailureReason::NODE_FAILED,
                     absl::StrCat("the worker could not be started: ", status.message()));
}

v1::Failure SubmissionRefusedFailure(absl::string_view why) {
  return MakeFailure(
      v1::FailureReason::SUBMISSION_REFUSED,
      absl::StrCat("the attempt was refused: ", why,
                   ". Change the job's slurm settings, threads or model and submit it "
                   "again, or have the server's flags changed"));
}

v1::Failure HelloTimeoutFailure(absl::Duration timeout,
                                bool elsewhere,
                                const std::string& log_path) {
  return MakeFailure(
      v1::FailureReason::WORKER_START_FAILED,
      WithLog(
          absl::StrCat("the worker did not say hello within ", absl::FormatDuration(timeout),
                       " of its start and was ended. ",
                       elsewhere ? "Can it reach --worker_address from there, and does --worker_ca "
                                   "vouch for the server's certificate? Then submit"
                                 : "The machine may be overloaded: submit",
                       " the job again, or set max_retries"),
          log_path));
}

v1::Failure TimeLimitFailure(absl::Duration limit) {
  return MakeFailure(
      v1::FailureReason::TIME_LIMIT_EXCEEDED,
      absl::StrCat("the attempt ran for its time_limit of ", absl::FormatDuration(limit),
                   " and was ended. Raise time_limit, or train for fewer steps"));
}

v1::Failure ServerLostFailure(absl::string_view how) {
  return MakeFailure(v1::FailureReason::SERVER_LOST,
                     absl::StrCat(how, "; nothing needs to be done"));
}

v1::Failure CancelledBeforeStartFailure() {
  return MakeFailure(v1::FailureReason::WORKER_START_FAILED,
                     "ended before it started, because the job was cancelled");
}

v1::Failure PausedBeforeStartFailure() {
  return MakeFailure(v1::FailureReason::PAUSED,
                     "ended before it started, because the job was paused");
}

v1::Failure DrainedBeforeStartFailure() {
  return MakeFailure(v1::FailureReason::SERVER_DRAINED,
                     "ended before it started, because the server was stopped; nothing needs to be "
                     "done");
}

v1::Failure CancelIgnoredFailure(absl::Duration grace) {
  return MakeFailure(v1::FailureReason::WORKER_CRASHED,
                     absl::StrCat("the job was cancelled, but the worker did not end within ",
                                  absl::FormatDuration(grace), " and was killed"));
}

v1::Failure InvalidReportFailure(const absl::Status& status) {
  return MakeFailure(v1::FailureReason::INTERNAL,
                     absl::StrCat("the worker was ended: ", status.message()));
}

v1::Failure DamagedFailure(const absl::Status& status) {
  return MakeFailure(
      v1::FailureReason::DATA_LOSS,
      absl::StrCat("what the server has stored of this job is damaged: ", status.message(),
                   ". Submit its spec again, and tell the server's operator"));
}

v1::Failure DataFailure(const absl::Status& status) {
  return MakeFailure(v1::FailureReason::DATA_ERROR,
                     absl::StrCat("the data set could not be looked at: ", status.message()));
}

v1::Failure DataFailure(const v1::DataReport& report) {
  if (report.violations().empty()) {
    return MakeFailure(
        v1::FailureReason::DATA_ERROR,
        "the data set could not be prepared; look at the server's log, and submit the job again");
  }
  return MakeFailure(
      v1::FailureReason::DATA_ERROR,
      absl::StrCat("the job's files changed since it was accepted: ",
                   absl::StrJoin(report.violations(), "; ",
                                 [](std::string* out, const v1::SpecViolation& violation) {
                                   absl::StrAppend(out, violation.field(), ": ",
                                                   violation.description());
                                 })));
}

std::string LogTail(const std::string& path, size_t max_bytes) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) {
    return "";
  }
  const auto size = static_cast<int64_t>(file.tellg());
  const int64_t start = std::max<int64_t>(size - static_cast<int64_t>(max_bytes), 0);
  std::string tail(static_cast<size_t>(std::max<int64_t>(size - start, 0)), '\0');
  file.seekg(start);
  file.read(tail.data(), static_cast<std::streamsize>(tail.size()));
  tail.resize(static_cast<size_t>(std::max<std::streamsize>(file.gcount(), 0)));
  if (start > 0) {
    // A line that was cut through tells little; but one endless line is better than nothing.
    if (const size_t line_end = tail.find('\n');
        line_end != std::string::npos && line_end + 1 < tail.size()) {
      tail.erase(0, line_end + 1);
    }
  }
  // The text goes into a protobuf string, which must be UTF-8, and onto terminals.
  for (char& c : tail) {
    if (c != '\n' && !absl::ascii_isprint(static_cast<unsigned char>(c))) {
      c = c == '\t' ? ' ' : '?';
    }
  }
  return std::string(absl::StripAsciiWhitespace(tail));
}

}  // namespace normlab::server
