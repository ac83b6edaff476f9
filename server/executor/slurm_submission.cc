#include "server/executor/slurm_submission.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

#include "common/unique_fd.h"
#include "engine/spec/ranks.h"

namespace normlab::server {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
// Of resident memory over the estimate, where Slurm enforces what it reserves. What a worker may have of
// its own, which it says itself when it is used up, is its RLIMIT_DATA.
constexpr int64_t kMemoryMargin = 64 * kMiB;

// An early signal before the worker is ready for it must not end the script; ignored signals stay so
// through exec.
constexpr char kScriptHead[] = "#!/bin/sh\ntrap '' USR1\n";

std::string OrElse(const std::string& wish, const std::string& otherwise) {
  return wish.empty() ? otherwise : wish;
}

// What each rank is started by, on its node: as the script of one process, and with words that tell whoever
// reads the job's log what to do. (64 is kExitRankUsage.) A SIGTERM because another rank did not start must
// not be taken for one that was sent to all.
constexpr char kRankScript[] =
    "trap \"\" USR1 TERM; [ -x \"$0\" ] || { echo \"the node "
    "${SLURMD_NODENAME:-$(hostname)} has no $0, "
    "the worker "
    "of jobs with several processes; install normlab-worker-mpi and Open MPI there, at the same "
    "path as "
    "here\" >&2; exit 64; }; exec \"$0\" \"$@\"";

// Up to the path of the assignment.
std::string Exec(const WorkerCommand& worker, const SlurmShape& shape) {
  std::string command = "exec ";
  if (shape.ranks > 1) {
    // srun does not take over what sbatch was told. It hands SIGUSR1 on to all ranks, and ends them all
    // when one has ended badly.
    absl::StrAppend(&command, ShellQuoted(worker.srun), " --mpi=", ShellQuoted(worker.mpi),
                    " --ntasks=", shape.ranks, " --cpus-per-task=", shape.cores,
                    " --kill-on-bad-exit=1 --input=none /bin/sh -c ", ShellQuoted(kRankScript), " ",
                    ShellQuoted(worker.rank_binary));
  } else {
    absl::StrAppend(&command, ShellQuoted(worker.binary));
  }
  return absl::StrCat(command,
                      worker.server_ca_file.empty()
                          ? ""
                          : absl::StrCat(" --server-ca ", ShellQuoted(worker.server_ca_file)),
                      " --run-file ");
}

}  // namespace

SlurmShape ShapeOf(const v1::WorkerAssignment& assignment, const SlurmWishes& server) {
  const v1::Slurm& job = assignment.resolved_spec().slurm();
  SlurmShape shape;
  shape.wishes.partition = OrElse(job.partition(), server.partition);
  shape.wishes.account = OrElse(job.account(), server.account);
  shape.wishes.constraint = OrElse(job.constraint(), server.constraint);
  shape.wishes.qos = OrElse(job.qos(), server.qos);
  shape.wishes.time_limit = job.has_time_limit() ? absl::Seconds(job.time_limit().seconds()) +
                                                       absl::Nanoseconds(job.time_limit().nanos())
                                                 : server.time_limit;
  shape.ranks = engine::RanksOf(assignment.resolved_spec());
  shape.cores = std::max(assignment.resolved_spec().threads(), 1);
  shape.memory_bytes = assignment.memory_estimate_bytes();
  return shape;
}

std::string AssignmentPath(const std::string& attempt_folder) {
  return absl::StrCat(attempt_folder, "/assignment");
}

absl::Status WriteAssignment(const v1::WorkerAssignment& assignment) {
  const std::string path = AssignmentPath(assignment.attempt_folder());
  // Of a submission whose answer was lost.
  unlink(path.c_str());
  const common::UniqueFd file(
      open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file.valid()) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path));
  }
  const std::string bytes = assignment.SerializeAsString();
  for (size_t written = 0; written < bytes.size();) {
    const ssize_t count = write(file.get(), bytes.data() + written, bytes.size() - written);
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count <= 0) {
      const absl::Status status = absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path));
      unlink(path.c_str());
      return status;
    }
    written += static_cast<size_t>(count);
  }
  return absl::OkStatus();
}

std::string ShellQuoted(absl::string_view text) {
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"'", "'\\''"}}), "'");
}

std::string ScriptOf(const WorkerCommand& worker,
                     const SlurmShape& shape,
                     const v1::WorkerAssignment& assignment) {
  return absl::StrCat(kScriptHead, Exec(worker, shape),
                      ShellQuoted(AssignmentPath(assignment.attempt_folder())), "\n");
}

std::string ArrayScript(const WorkerCommand& worker,
                        const SlurmShape& shape,
                        const std::string& list_path) {
  return absl::StrCat(kScriptHead, "read -r job number folder <<END\n$(sed -n ",
                      "\"$((SLURM_ARRAY_TASK_ID + 1))p\" ", ShellQuoted(list_path), ")\nEND\n",
                      "[ -n \"$folder\" ] && cd \"$folder\" || exit 126\n", Exec(worker, shape),
                      "\"$folder/assignment\" >>worker.log 2>&1\n");
}

std::string ListOf(const std::vector<ListedAttempt>& attempts) {
  std::string text;
  for (const ListedAttempt& one : attempts) {
    absl::StrAppend(&text, one.attempt.job_id, " ", one.attempt.number, " ", one.folder, "\n");
  }
  return text;
}

std::vector<ListedAttempt> ParseList(absl::string_view text) {
  std::vector<ListedAttempt> attempts;
  for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(' ', 2));
    ListedAttempt one;
    if (parts.size() == 3 && absl::SimpleAtoi(parts[1], &one.attempt.number)) {
      one.attempt.job_id = parts[0];
      one.folder = parts[2];
    }
    attempts.push_back(std::move(one));
  }
  return attempts;
}

absl::Duration EarlySignal(absl::Duration time_limit) {
  return time_limit <= absl::ZeroDuration()
             ? absl::Minutes(1)
             : std::clamp(time_limit / 4, absl::Seconds(5), absl::Minutes(1));
}

std::vector<std::string> SbatchArguments(const SbatchJob& job) {
  const SlurmWishes& wishes = job.shape.wishes;
  const int64_t ranks = job.shape.ranks;
  const int64_t bytes = job.shape.memory_bytes + ranks * kMemoryMargin;
  const auto mebibytes_of = [bytes](int64_t parts) {
    return (bytes + parts * kMiB - 1) / (parts * kMiB);
  };
  std::vector<std::string> arguments = {
      "--parsable", absl::StrCat("--job-name=", job.name),
      // Slurm would run the same script again, beside the old one where only the node's daemon died. A
      // new attempt has a number and a secret of its own.
      "--no-requeue", absl::StrCat("--ntasks=", ranks),
      absl::StrCat("--cpus-per-task=", job.shape.cores),
      // How many ranks a node gets is Slurm's to decide, and so is how much memory there.
      ranks > 1 ? absl::StrCat("--mem-per-cpu=", mebibytes_of(ranks * job.shape.cores), "M")
                : absl::StrCat("--mem=", mebibytes_of(1), "M"),
      absl::StrCat("--signal=B:USR1@",
                   absl::ToInt64Seconds(EarlySignal(job.shape.wishes.time_limit))),
      absl::StrCat("--chdir=", job.folder),
      absl::StrCat("--output=", absl::StrReplaceAll(job.log_path, {{"%", "%%"}})),
      "--open-mode=append"};
  const auto add = [&arguments](absl::string_view flag, const std::string& value) {
    if (!value.empty()) {
      arguments.push_back(absl::StrCat(flag, "=", value));
    }
  };
  add("--partition", wishes.partition);
  add("--account", wishes.account);
  add("--constraint", wishes.constraint);
  add("--qos", wishes.qos);
  if (wishes.time_limit > absl::ZeroDuration()) {
    const int64_t minutes = absl::ToInt64Minutes(absl::Ceil(wishes.time_limit, absl::Minutes(1)));
    add("--time", absl::StrCat(minutes));
  }
  if (ranks == 1) {
    arguments.emplace_back("--nodes=1");
  }
  if (job.elements > 0) {
    add("--array", absl::StrCat("0-", job.elements - 1));
  }
  arguments.push_back(job.script);
  return arguments;
}

absl::StatusOr<int64_t> ParseSbatch(absl::string_view output) {
  const absl::string_view id = absl::StripAsciiWhitespace(output.substr(0, output.find(';')));
  int64_t job_id = 0;
  if (!absl::SimpleAtoi(id, &job_id) || job_id <= 0) {
    return absl::DataLossError(
        absl::StrCat("sbatch --parsable printed no id of a job: ", output.substr(0, 200)));
  }
  return job_id;
}

}  // namespace normlab::server
