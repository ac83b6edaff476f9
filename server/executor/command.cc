#include "server/executor/command.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/clock.h"
#include "common/unique_fd.h"

namespace normlab::server {
namespace {

struct Pipe {
  common::UniqueFd read;
  common::UniqueFd write;
};

absl::StatusOr<Pipe> MakePipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    return absl::ErrnoToStatus(errno, "cannot make a pipe");
  }
  return Pipe{common::UniqueFd(ends[0]), common::UniqueFd(ends[1])};
}

std::vector<char*> Pointers(const std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (const std::string& text : texts) {
    pointers.push_back(const_cast<char*>(text.c_str()));
  }
  pointers.push_back(nullptr);
  return pointers;
}

absl::StatusOr<pid_t> Spawn(const CommandOptions& options, int output, int errors) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_init(&attributes);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, errors, STDERR_FILENO);
  posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
  sigset_t all;
  sigset_t none;
  sigfillset(&all);
  sigemptyset(&none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setsigmask(&attributes, &none);
  // A session of its own: what it starts can be ended with it.
  posix_spawnattr_setflags(
      &attributes,
      static_cast<short>(POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSID));
  const std::vector<char*> argv = Pointers(options.argv);
  const std::vector<char*> environment = Pointers(options.environment);
  pid_t pid = -1;
  const int error =
      posix_spawnp(&pid, argv[0], &actions, &attributes, argv.data(), environment.data());
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (error == ENOENT) {
    return absl::NotFoundError(absl::StrCat("there is no program ", options.argv[0]));
  }
  if (error != 0) {
    return absl::InternalError(
        absl::StrCat("cannot start ", options.argv[0], ": ", strerror(error)));
  }
  return pid;
}

// Reads what there is; false at the end.
bool ReadSome(int fd, std::string& text) {
  std::array<char, 64 << 10> buffer;
  const ssize_t count = read(fd, buffer.data(), buffer.size());
  if (count > 0) {
    text.append(buffer.data(), static_cast<size_t>(count));
  }
  return count > 0 || (count < 0 && (errno == EINTR || errno == EAGAIN));
}

absl::Status Collect(const CommandOptions& options, Pipe& out, Pipe& err, CommandResult& result) {
  const absl::Duration deadline = common::Clock::Real().Monotonic() + options.timeout;
  while (out.read.valid() || err.read.valid()) {
    const absl::Duration left = deadline - common::Clock::Real().Monotonic();
    if (left <= absl::ZeroDuration()) {
      return absl::DeadlineExceededError(absl::StrCat(options.argv[0], " did not end within ",
                                                      absl::FormatDuration(options.timeout)));
    }
    // A negative descriptor is left out.
    std::array<pollfd, 2> waits = {pollfd{out.read.get(), POLLIN, 0},
                                   pollfd{err.read.get(), POLLIN, 0}};
    poll(waits.data(), waits.size(), static_cast<int>(absl::ToInt64Milliseconds(left)) + 1);
    if (waits[0].revents != 0 && !ReadSome(out.read.get(), result.output)) {
      out.read.Reset();
    }
    if (waits[1].revents != 0 && !ReadSome(err.read.get(), result.errors)) {
      err.read.Reset();
    }
    if (result.output.size() > options.max_output_bytes ||
        result.errors.size() > options.max_output_bytes) {
      return absl::ResourceExhaustedError(
          absl::StrCat(options.argv[0], " wrote more than ", options.max_output_bytes, " bytes"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CommandResult> RunCommand(const CommandOptions& options) {
  absl::StatusOr<Pipe> out = MakePipe();
  absl::StatusOr<Pipe> err = MakePipe();
  if (!out.ok() || !err.ok()) {
    return absl::InternalError(out.ok() ? err.status().message() : out.status().message());
  }
  const absl::StatusOr<pid_t> pid = Spawn(options, out->write.get(), err->write.get());
  if (!pid.ok()) {
    return pid.status();
  }
  out->write.Reset();
  err->write.Reset();
  CommandResult result;
  const absl::Status collected = Collect(options, *out, *err, result);
  if (!collected.ok()) {
    kill(-*pid, SIGKILL);
    kill(*pid, SIGKILL);
  }
  int status = 0;
  while (waitpid(*pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!collected.ok()) {
    return collected;
  }
  result.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  // What the shell says when it finds nothing; posix_spawn may say it by this, too.
  if (result.code == 127 && result.output.empty() && result.errors.empty()) {
    return absl::NotFoundError(absl::StrCat("cannot run ", options.argv[0]));
  }
  return result;
}

}  // namespace normlab::server
