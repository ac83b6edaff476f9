#include "engine/worker/run_command.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

#include "common/atomic_file.h"
#include "common/unique_fd.h"
#include "common/worker_exit.h"
#include "engine/parallel/communicator.h"
#include "engine/worker/attempt.h"
#include "engine/worker/folder_watch.h"
#include "engine/worker/process_setup.h"
#include "engine/worker/signals.h"

#include "normlab/v1/worker.pb.h"
#include "spdlog/sinks/stdout_sinks.h"
#include "spdlog/spdlog.h"

namespace normlab::engine {
namespace {

constexpr size_t kMaxAssignmentBytes = size_t{64} << 20;
constexpr size_t kMaxAuthorityBytes = size_t{1} << 20;
// Enough to build the last report and write it when everything else was used up.
constexpr int64_t kMemoryReserveBytes = int64_t{4} << 20;

absl::StatusOr<v1::WorkerAssignment> ReadAssignment(int fd) {
  const common::UniqueFd pipe(fd);
  std::string bytes;
  std::array<char, 16 << 10> buffer;
  while (true) {
    const ssize_t count = read(pipe.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      return absl::ErrnoToStatus(
          errno, "there is no assignment to read; normlab-worker is started by normlabd");
    }
    if (count == 0) {
      break;
    }
    bytes.append(buffer.data(), static_cast<size_t>(count));
    if (bytes.size() > kMaxAssignmentBytes) {
      return absl::InvalidArgumentError("the assignment is too long");
    }
  }
  v1::WorkerAssignment assignment;
  if (!assignment.ParseFromString(bytes)) {
    return absl::InvalidArgumentError("what came on the pipe is not an assignment");
  }
  if (assignment.job().empty() || assignment.attempt() < 1 || assignment.server().empty() ||
      assignment.attempt_folder().empty()) {
    return absl::InvalidArgumentError(
        "the assignment lacks the job, the attempt, its folder or the server");
  }
  return assignment;
}

// Paths stay what they are when the process goes to the attempt's folder.
void MakePathsAbsolute(v1::WorkerAssignment& assignment) {
  const auto absolute = [](const std::string& path) {
    return path.empty() ? path : std::filesystem::absolute(path).lexically_normal().string();
  };
  assignment.set_attempt_folder(absolute(assignment.attempt_folder()));
  assignment.set_data_cache(absolute(assignment.data_cache()));
  assignment.set_resume_from(absolute(assignment.resume_from()));
  absl::string_view socket = assignment.server();
  if (absl::ConsumePrefix(&socket, "unix:") && !absl::StartsWith(socket, "/")) {
    assignment.set_server(absl::StrCat("unix:", absolute(std::string(socket))));
  }
}

void SetUpLog() {
  // The executor redirects stderr into the attempt's log file.
  auto logger =
      std::make_shared<spdlog::logger>("worker", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");
  spdlog::set_default_logger(std::move(logger));
}

// What rank 0 read, on all ranks; the others get neither the secret nor the server's address, which
// they do not need.
absl::StatusOr<v1::WorkerAssignment> ShareAssignment(absl::StatusOr<v1::WorkerAssignment> read,
                                                     Communicator& communicator) {
  std::string bytes;
  if (read.ok()) {
    v1::WorkerAssignment shared = *read;
    shared.clear_secret();
    shared.clear_server();
    bytes = shared.SerializeAsString();
  }
  uint64_t size = bytes.size();
  communicator.Broadcast(&size, sizeof(size));
  bytes.resize(size);
  communicator.Broadcast(bytes.data(), size);
  if (communicator.rank() == 0) {
    return read;
  }
  v1::WorkerAssignment assignment;
  if (size == 0 || !assignment.ParseFromString(bytes)) {
    return absl::InvalidArgumentError("rank 0 has no assignment");
  }
  return assignment;
}

// One rank's part of an assignment: its cores and its share of the memory.
void TakeShare(v1::WorkerAssignment& assignment, const Communicator& communicator) {
  assignment.set_memory_limit_bytes(assignment.memory_limit_bytes() / communicator.size());
  const std::vector<int> cores(assignment.cores().begin(), assignment.cores().end());
  const int threads = assignment.resolved_spec().threads();
  assignment.clear_cores();
  const int first = communicator.rank() * threads;
  for (int i = first; i < first + threads && i < static_cast<int>(cores.size()); ++i) {
    assignment.add_cores(cores[static_cast<size_t>(i)]);
  }
}

// Descriptor of a file that only its owner can read, which is gone from its folder then. NOT_FOUND: it was
// before.
absl::StatusOr<int> TakeAssignmentFile(const std::string& path) {
  common::UniqueFd file(open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  struct stat info {};
  const bool is_private = file.valid() && fstat(file.get(), &info) == 0 && S_ISREG(info.st_mode) &&
                          info.st_uid == geteuid() && (info.st_mode & 077) == 0;
  const std::string run_before =
      absl::StrCat(path, " is not there: this attempt has been run before");
  if (!file.valid() && errno == ENOENT) {
    return absl::NotFoundError(run_before);
  }
  if (!is_private) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is no assignment that only its owner can read: ",
                     file.valid() ? "wrong owner, kind or mode" : strerror(errno)));
  }
  // The secret in it is needed once; whoever runs this script again is another attempt.
  // Of two at once, one removes it.
  if (unlink(path.c_str()) != 0 && errno == ENOENT) {
    return absl::NotFoundError(run_before);
  }
  return file.Release();
}

// Empty when there is no such file to read.
absl::StatusOr<std::string> ReadAuthorities(const std::string& path) {
  if (path.empty()) {
    return std::string();
  }
  absl::StatusOr<std::string> read = common::ReadFile(path, kMaxAuthorityBytes);
  if (!read.ok() || read->empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the authorities of the server in ", path,
        " cannot be read: ", read.ok() ? "the file is empty" : read.status().message()));
  }
  return read;
}

// Its thread goes wherever there is room: this one may already be bound to a single core.
const SignalWishes& TakeSignalsOn(const v1::WorkerAssignment& assignment) {
  const AffinityScope all_cores(
      CoreSet(std::vector<int>(assignment.cores().begin(), assignment.cores().end())));
  return TakeSignals();
}

// Says why there is no assignment.
int Refuse(const absl::Status& status, int code) {
  spdlog::error(std::string(status.message()));
  return absl::IsNotFound(status) ? common::kExitRunAgain : code;
}

// `signals`: what takes them already; null: nothing does.
int RunAssignment(absl::StatusOr<v1::WorkerAssignment> assignment,
                  Communicator* communicator,
                  std::string server_ca,
                  const SignalWishes* signals = nullptr) {
  if (!assignment.ok()) {
    return Refuse(assignment.status(), common::kExitUsage);
  }
  const SignalWishes& wishes = signals != nullptr ? *signals : TakeSignalsOn(*assignment);
  MakePathsAbsolute(*assignment);
  absl::StatusOr<FolderWatch> folder = FolderWatch::Create(assignment->attempt_folder());
  if (!folder.ok() || chdir(assignment->attempt_folder().c_str()) != 0) {
    spdlog::error("the attempt's folder {} cannot be used: {}", assignment->attempt_folder(),
                  folder.ok() ? "no permission to enter it" : folder.status().ToString());
    return common::kExitFenced;
  }
  // Neither stops the training, whose results do not depend on them; the log tells.
  for (const absl::Status& status :
       {LimitMemory(assignment->memory_limit_bytes()),
        CheckCores(std::vector<int>(assignment->cores().begin(), assignment->cores().end()))}) {
    if (!status.ok()) {
      spdlog::warn(std::string(status.message()));
    }
  }
  InstallOutOfMemoryHandler(kMemoryReserveBytes);
  AttemptRunner runner(*std::move(assignment), *std::move(folder),
                       {.terminating = [&wishes] { return wishes.terminating.load(); },
                        .leaving = [&wishes] { return wishes.leaving.load(); }},
                       std::move(server_ca), communicator);
  return runner.Run();
}

}  // namespace

int RunCommand(int fd, const std::string& server_ca_file) {
  SetUpProcess("normlab-worker");
  HoldSignals();
  SetUpLog();
  absl::StatusOr<v1::WorkerAssignment> assignment = ReadAssignment(fd);
  absl::StatusOr<std::string> server_ca = ReadAuthorities(server_ca_file);
  if (assignment.ok() && !server_ca.ok()) {
    assignment = server_ca.status();
  }
  return RunAssignment(std::move(assignment), nullptr, std::move(server_ca).value_or(""));
}

int RunFileCommand(const std::string& path, const std::string& server_ca_file) {
  const absl::StatusOr<int> file = TakeAssignmentFile(path);
  if (!file.ok()) {
    SetUpLog();
    return Refuse(file.status(), common::kExitUsage);
  }
  return RunCommand(*file, server_ca_file);
}

int RunRankCommand(int fd, Communicator& communicator) {
  SetUpLog();
  absl::StatusOr<v1::WorkerAssignment> assignment = ShareAssignment(
      communicator.rank() == 0 ? ReadAssignment(fd)
                               : absl::StatusOr<v1::WorkerAssignment>(v1::WorkerAssignment()),
      communicator);
  if (assignment.ok()) {
    TakeShare(*assignment, communicator);
  }
  return RunAssignment(std::move(assignment), &communicator, "");
}

int RunRankFileCommand(const std::string& path,
                       const std::string& server_ca_file,
                       Communicator& communicator,
                       const SignalWishes& signals) {
  SetUpLog();
  absl::StatusOr<v1::WorkerAssignment> read = v1::WorkerAssignment();
  absl::StatusOr<std::string> server_ca = std::string();
  if (communicator.rank() == 0) {
    const absl::StatusOr<int> file = TakeAssignmentFile(path);
    read = file.ok() ? ReadAssignment(*file) : file.status();
    server_ca = ReadAuthorities(server_ca_file);
    if (read.ok() && !server_ca.ok()) {
      read = server_ca.status();
    }
  }
  absl::StatusOr<v1::WorkerAssignment> assignment = ShareAssignment(std::move(read), communicator);
  if (!assignment.ok()) {
    return Refuse(assignment.status(), common::kExitRankUsage);
  }
  TakeShare(*assignment, communicator);
  return RunAssignment(std::move(assignment), &communicator, std::move(server_ca).value_or(""),
                       &signals);
}

}  // namespace normlab::engine
