#include "common/subprocess.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <thread>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "common/atomic_file.h"
#include "common/status_macros.h"

namespace normlab::common {
namespace {

constexpr int kInheritedDescriptor = 3;

UniqueFd OpenPidfd(pid_t pid) {
  return UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
}

absl::StatusOr<pid_t> Spawn(const SubprocessOptions& options) {
  std::vector<char*> argv;
  for (const std::string& argument : options.argv) {
    argv.push_back(
        const_cast<char*>(argument.c_str()));  // NOLINT: posix_spawn does not write to it
  }
  argv.push_back(nullptr);
  std::vector<char*> environment;
  for (const std::string& variable : options.environment) {
    environment.push_back(const_cast<char*>(variable.c_str()));  // NOLINT: likewise
  }
  environment.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  if (options.input_fd >= 0) {
    posix_spawn_file_actions_adddup2(&actions, options.input_fd, 0);
  } else {
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  }
  if (!options.output_path.empty()) {
    posix_spawn_file_actions_addopen(&actions, 1, options.output_path.c_str(),
                                     O_WRONLY | O_CREAT | O_APPEND, 0644);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
  }
  int first_closed = kInheritedDescriptor;
  if (options.inherited_fd >= 0) {
    // dup2 onto itself clears close-on-exec, so this also serves when the descriptor is 3 already.
    posix_spawn_file_actions_adddup2(&actions, options.inherited_fd, kInheritedDescriptor);
    ++first_closed;
  }
  posix_spawn_file_actions_addclosefrom_np(&actions, first_closed);

  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  sigset_t all;
  sigfillset(&all);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  pid_t pid = 0;
  const int error = posix_spawn(&pid, options.argv[0].c_str(), &actions, &attributes, argv.data(),
                                environment.data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    return absl::InternalError(
        absl::StrCat("cannot start ", options.argv[0], ": ", strerror(error)));  // NOLINT
  }
  return pid;
}

}  // namespace

std::string ProcessIdentity::ToString() const {
  return absl::StrCat(boot_id, "/", pid_namespace, "/", pid, "/", start_ticks);
}

absl::StatusOr<ProcessIdentity> ProcessIdentity::Parse(absl::string_view text) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, '/');
  ProcessIdentity identity;
  if (parts.size() != 4 || !absl::SimpleAtoi(parts[2], &identity.pid) ||
      !absl::SimpleAtoi(parts[3], &identity.start_ticks)) {
    return absl::InvalidArgumentError(absl::StrCat("not a process identity: ", text));
  }
  identity.boot_id = std::string(parts[0]);
  identity.pid_namespace = std::string(parts[1]);
  return identity;
}

absl::StatusOr<ProcessIdentity> ProcessIdentity::Of(pid_t pid) {
  ProcessIdentity identity;
  identity.pid = pid;
  NORMLAB_ASSIGN_OR_RETURN(std::string boot, ReadFile("/proc/sys/kernel/random/boot_id"));
  identity.boot_id = std::string(absl::StripAsciiWhitespace(boot));
  std::error_code error;
  identity.pid_namespace = std::filesystem::read_symlink("/proc/self/ns/pid", error).string();
  NORMLAB_ASSIGN_OR_RETURN(const std::string stat, ReadFile(absl::StrCat("/proc/", pid, "/stat")));
  // The command name (field 2) may hold anything, so fields are counted after its closing
  // parenthesis.
  const size_t close = stat.rfind(')');
  if (close == std::string::npos) {
    return absl::NotFoundError(absl::StrCat("process ", pid, " is gone"));
  }
  const std::vector<absl::string_view> fields =
      absl::StrSplit(absl::string_view(stat).substr(close + 1), ' ', absl::SkipEmpty());
  constexpr size_t kStartTimeAfterName = 19;  // field 22 of the line
  if (fields.size() <= kStartTimeAfterName ||
      !absl::SimpleAtoi(fields[kStartTimeAfterName], &identity.start_ticks)) {
    return absl::NotFoundError(absl::StrCat("process ", pid, " is gone"));
  }
  return identity;
}

absl::Duration ProcessIdentity::Age() const {
  timespec now = {};
  clock_gettime(CLOCK_BOOTTIME, &now);  // what start_ticks counts in
  const absl::Duration start =
      absl::Seconds(static_cast<double>(start_ticks) / static_cast<double>(sysconf(_SC_CLK_TCK)));
  return std::max(absl::DurationFromTimespec(now) - start, absl::ZeroDuration());
}

absl::StatusOr<Subprocess> Subprocess::Start(const SubprocessOptions& options) {
  if (options.argv.empty()) {
    return absl::InvalidArgumentError("no program to start");
  }
  std::optional<absl::StatusOr<pid_t>> pid;
  if (options.cores.empty()) {
    pid = Spawn(options);
  } else {
    // A child inherits the affinity of the thread that starts it; a thread made for it leaves ours
    // alone.
    std::thread starter([&] {
      cpu_set_t set;
      CPU_ZERO(&set);
      for (const int core : options.cores) {
        CPU_SET(core, &set);
      }
      if (sched_setaffinity(0, sizeof(set), &set) != 0) {
        pid = absl::ErrnoToStatus(errno, "cannot pin the process to its cores");
        return;
      }
      pid = Spawn(options);
    });
    starter.join();
  }
  NORMLAB_RETURN_IF_ERROR(pid->status());
  UniqueFd pidfd = OpenPidfd(**pid);
  absl::Status problem =
      pidfd.valid() ? absl::OkStatus()
                    : absl::ErrnoToStatus(errno,
                                          "cannot get a handle on the new process (which "
                                          "takes Linux 5.4 or later, and a free descriptor)");
  absl::StatusOr<ProcessIdentity> identity = ProcessIdentity::Of(**pid);
  problem.Update(identity.status());
  if (!problem.ok()) {
    // It cannot have been reaped by anybody else.
    kill(**pid, SIGKILL);
    waitpid(**pid, nullptr, 0);
    return absl::InternalError(problem.message());
  }
  return Subprocess(*std::move(identity), std::move(pidfd), true);
}

absl::StatusOr<Subprocess> Subprocess::Adopt(const ProcessIdentity& identity) {
  // The handle is opened first: whatever it refers to cannot change afterwards, so comparing is
  // safe.
  UniqueFd pidfd = OpenPidfd(identity.pid);
  const absl::StatusOr<ProcessIdentity> now = ProcessIdentity::Of(identity.pid);
  if (!pidfd.valid() || !now.ok() || now->ToString() != identity.ToString()) {
    return absl::NotFoundError(absl::StrCat("process ", identity.pid, " is gone"));
  }
  Subprocess process(identity, std::move(pidfd), false);
  if (process.HasEnded()) {
    return absl::NotFoundError(absl::StrCat("process ", identity.pid, " is gone"));
  }
  return process;
}

absl::Status Subprocess::Signal(int signal) const {
  if (syscall(SYS_pidfd_send_signal, pidfd_.get(), signal, nullptr, 0) != 0 && errno != ESRCH) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot signal process ", pid()));
  }
  return absl::OkStatus();
}

bool Subprocess::HasEnded() const {
  pollfd entry = {pidfd_.get(), POLLIN, 0};
  return poll(&entry, 1, 0) > 0;
}

absl::StatusOr<Subprocess::Exit> Subprocess::Reap() const {
  if (!HasEnded()) {
    return absl::FailedPreconditionError(absl::StrCat("process ", pid(), " still runs"));
  }
  if (!is_child_) {
    return Exit{false, -1};
  }
  siginfo_t info = {};
  rusage usage = {};
  // The system call itself, because the library's waitid does not hand over the resource usage.
  if (syscall(SYS_waitid, P_PIDFD, pidfd_.get(), &info, WEXITED | WNOHANG, &usage) != 0) {
    return Exit{false, -1};
  }
  return Exit{info.si_code != CLD_EXITED, info.si_status, int64_t{usage.ru_maxrss} * 1024,
              absl::ToDoubleSeconds(absl::DurationFromTimeval(usage.ru_utime) +
                                    absl::DurationFromTimeval(usage.ru_stime))};
}

namespace {

// What /proc tells of a process, and when that began. NOT_FOUND: it is gone.
absl::StatusOr<Subprocess::Usage> UsageOf(pid_t pid, uint64_t& start) {
  // Positions after the name, which is field 2 of the line.
  constexpr size_t kUserTicks = 11;
  constexpr size_t kSystemTicks = 12;
  constexpr size_t kStartTicks = 19;
  constexpr size_t kResidentPages = 21;
  const absl::StatusOr<std::string> stat = ReadFile(absl::StrCat("/proc/", pid, "/stat"));
  const size_t close = stat.ok() ? stat->rfind(')') : std::string::npos;
  if (close == std::string::npos) {
    return absl::NotFoundError(absl::StrCat("process ", pid, " is gone"));
  }
  const std::vector<absl::string_view> fields =
      absl::StrSplit(absl::string_view(*stat).substr(close + 1), ' ', absl::SkipEmpty());
  int64_t user = 0;
  int64_t system = 0;
  int64_t pages = 0;
  if (fields.size() <= kResidentPages || !absl::SimpleAtoi(fields[kUserTicks], &user) ||
      !absl::SimpleAtoi(fields[kSystemTicks], &system) ||
      !absl::SimpleAtoi(fields[kStartTicks], &start) ||
      !absl::SimpleAtoi(fields[kResidentPages], &pages)) {
    return absl::NotFoundError(absl::StrCat("process ", pid, " is gone"));
  }
  return Subprocess::Usage{
      static_cast<double>(user + system) / static_cast<double>(sysconf(_SC_CLK_TCK)),
      pages * sysconf(_SC_PAGESIZE)};
}

}  // namespace

absl::StatusOr<Subprocess::Usage> Subprocess::GetUsage() const {
  uint64_t start = 0;
  NORMLAB_ASSIGN_OR_RETURN(const Usage usage, UsageOf(pid(), start));
  // The number may be another process's by now, unless it is our child, which nobody has reaped.
  if (start != identity_.start_ticks) {
    return absl::NotFoundError(absl::StrCat("process ", pid(), " is gone"));
  }
  return usage;
}

absl::StatusOr<Subprocess::Usage> Subprocess::GetUsageWithChildren() const {
  NORMLAB_ASSIGN_OR_RETURN(Usage usage, GetUsage());
  const absl::StatusOr<std::string> children =
      ReadFile(absl::StrCat("/proc/", pid(), "/task/", pid(), "/children"));
  for (const absl::string_view word :
       absl::StrSplit(children.ok() ? *children : "", ' ', absl::SkipEmpty())) {
    pid_t child = 0;
    uint64_t start = 0;
    if (absl::SimpleAtoi(word, &child)) {
      if (const absl::StatusOr<Usage> of_child = UsageOf(child, start); of_child.ok()) {
        usage.cpu_seconds += of_child->cpu_seconds;
        usage.resident_bytes += of_child->resident_bytes;
      }
    }
  }
  return usage;
}

std::string Subprocess::Exit::ToString() const {
  if (code < 0) {
    return "ended";
  }
  if (by_signal) {
    return absl::StrCat("signal ", code, " (", sigdescr_np(code) ? sigdescr_np(code) : "unknown",
                        ")");
  }
  return absl::StrCat("exit code ", code);
}

}  // namespace normlab::common
