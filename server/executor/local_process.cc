#include "server/executor/local_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <map>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"

#include "common/status_macros.h"
#include "common/subprocess.h"
#include "common/unique_fd.h"
#include "common/worker_exit.h"
#include "engine/spec/ranks.h"
#include "server/executor/rank_launch.h"

namespace normlab::server {
namespace {

// A file in memory holding `contents`, positioned at its start. It stands in for a pipe: the reader
// sees the same, and nobody can block on a full buffer.
absl::StatusOr<common::UniqueFd> MemoryFile(const std::string& contents) {
  common::UniqueFd fd(memfd_create("normlab-assignment", MFD_CLOEXEC));
  if (!fd.valid()) {
    return absl::ErrnoToStatus(errno, "cannot make a file in memory for the assignment");
  }
  for (size_t written = 0; written < contents.size();) {
    const ssize_t count = write(fd.get(), contents.data() + written, contents.size() - written);
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count <= 0) {
      return absl::ErrnoToStatus(errno, "cannot write the assignment");
    }
    written += static_cast<size_t>(count);
  }
  if (lseek(fd.get(), 0, SEEK_SET) != 0) {
    return absl::ErrnoToStatus(errno, "cannot rewind the assignment");
  }
  return fd;
}

// How many processes the kernel has killed for want of memory since boot; 0 when it does not say.
int64_t KernelMemoryKills() {
  std::ifstream file("/proc/vmstat");
  std::string name;
  int64_t value = 0;
  while (file >> name >> value) {
    if (name == "oom_kill") {
      return value;
    }
  }
  return 0;
}

// Open MPI's launcher ends with the exit code of the first rank that failed, or as a shell would tell
// that a signal ended it.
void TellRanksExit(ProcessExit& exit) {
  constexpr int kSignalBase = 128;
  if (exit.cause == ExitCause::kExited && exit.code > kSignalBase &&
      exit.code != common::kExitTerminated) {
    exit.cause = ExitCause::kSignalled;
    exit.code -= kSignalBase;
    exit.description =
        absl::StrCat("a rank ended by signal ", exit.code, " (", strsignal(exit.code), ")");
  }
}

class LocalProcessExecutor final : public Executor {
 public:
  LocalProcessExecutor(LocalProcessOptions options, common::UniqueFd epoll, common::UniqueFd stop)
      : options_(std::move(options)),
        epoll_(std::move(epoll)),
        stop_(std::move(stop)),
        watcher_([this] { Watch(); }) {}

  ~LocalProcessExecutor() override {
    const uint64_t one = 1;
    // An eventfd takes this write unless its counter is full, which it then is for this very
    // purpose.
    (void)!write(stop_.get(), &one, sizeof(one));
    watcher_.join();
  }

  void SetExitCallback(ExitCallback callback) override {
    absl::MutexLock lock(&callback_mu_);
    callback_ = std::move(callback);
  }

  void Submit(SubmitRequest request, SubmitCallback done) override {
    std::move(done)(Launch(request));
  }

  std::vector<AttemptView> Observe(absl::Span<const AttemptKey> attempts) override {
    absl::MutexLock lock(&mu_);
    std::vector<AttemptView> views;
    for (const AttemptKey& attempt : attempts) {
      AttemptView& view = views.emplace_back();
      view.attempt = attempt;
      if (const Entry* entry = FindEntry(attempt); entry != nullptr) {
        view.state = AttemptView::State::kRunning;
        view.identity = entry->process.identity().ToString();
        view.running_for = entry->process.identity().Age();
      } else {
        view.reason = "its process is gone";
      }
    }
    return views;
  }

  std::vector<AttemptView> Reconcile(std::vector<KnownAttempt> attempts) override {
    std::vector<AttemptView> views;
    for (const KnownAttempt& known : attempts) {
      AttemptView& view = views.emplace_back();
      view.attempt = known.attempt;
      view.identity = known.identity;
      const absl::StatusOr<absl::Duration> age =
          known.identity.empty() ? absl::NotFoundError("it had not been started")
                                 : Adopt(known.attempt, known.identity);
      if (age.ok()) {
        view.state = AttemptView::State::kRunning;
        view.running_for = *age;
      } else {
        view.reason = std::string(age.status().message());
      }
    }
    return views;
  }

  absl::Status Signal(const AttemptKey& attempt, AttemptSignal signal) override {
    absl::MutexLock lock(&mu_);
    const Entry* entry = FindEntry(attempt);
    if (entry == nullptr) {
      return absl::OkStatus();
    }
    switch (signal) {
      case AttemptSignal::kCheckpoint:
        return entry->process.Signal(SIGUSR1);
      case AttemptSignal::kStop:
        return entry->process.Signal(SIGTERM);
      case AttemptSignal::kKill:
        break;
    }
    return entry->process.Signal(SIGKILL);
  }

  WorkerUsage GetUsage() override {
    absl::MutexLock lock(&mu_);
    WorkerUsage usage;
    usage.cpu_seconds = ended_cpu_seconds_;
    for (auto& [token, entry] : entries_) {
      if (const auto now = entry.process.GetUsageWithChildren(); now.ok()) {
        entry.cpu_seconds = std::max(entry.cpu_seconds, now->cpu_seconds - entry.cpu_before);
        usage.resident_bytes += now->resident_bytes;
      }
      ++usage.processes;
      usage.cpu_seconds += entry.cpu_seconds;
    }
    return usage;
  }

 private:
  struct Entry {
    AttemptKey attempt;
    common::Subprocess process;
    int64_t memory_kills_before;
    int64_t memory_limit_bytes;
    double cpu_before;       // used before it was ours
    int ranks;               // processes that the launcher started; 1: the worker itself
    double cpu_seconds = 0;  // used since, as far as was looked
  };
  static constexpr uint64_t kStopToken = 0;

  absl::StatusOr<std::string> Launch(const SubmitRequest& request) ABSL_LOCKS_EXCLUDED(mu_) {
    {
      absl::MutexLock lock(&mu_);
      if (const Entry* entry = FindEntry(request.attempt); entry != nullptr) {
        return entry->process.identity().ToString();
      }
    }
    const v1::WorkerAssignment& assignment = request.assignment;
    NORMLAB_ASSIGN_OR_RETURN(const common::UniqueFd input,
                             MemoryFile(assignment.SerializeAsString()));
    common::SubprocessOptions options;
    options.output_path = request.log_path;
    options.cores.assign(assignment.cores().begin(), assignment.cores().end());
    const int ranks = engine::RanksOf(assignment.resolved_spec());
    const int threads = options.cores.empty() ? std::max(assignment.resolved_spec().threads(), 1)
                                              : static_cast<int>(options.cores.size()) / ranks;
    options.environment = WorkerEnvironment(threads, options.cores);
    if (ranks > 1) {
      NORMLAB_ASSIGN_OR_RETURN(const RankPrograms programs,
                               FindRankPrograms(options_.worker_binary));
      options.argv = LocalRankCommand(programs, ranks, threads, options.cores);
      options.input_fd = input.get();
    } else {
      options.argv = {options_.worker_binary, "--run"};
      options.inherited_fd = input.get();
    }
    const int64_t kills_before = KernelMemoryKills();
    NORMLAB_ASSIGN_OR_RETURN(common::Subprocess process, common::Subprocess::Start(options));
    std::string identity = process.identity().ToString();
    NORMLAB_RETURN_IF_ERROR(Add(request.attempt, std::move(process), kills_before,
                                assignment.memory_limit_bytes() / ranks, 0, ranks));
    return identity;
  }

  // For how long it has run. NOT_FOUND: it is gone.
  absl::StatusOr<absl::Duration> Adopt(const AttemptKey& attempt, const std::string& identity)
      ABSL_LOCKS_EXCLUDED(mu_) {
    const absl::StatusOr<common::ProcessIdentity> parsed = common::ProcessIdentity::Parse(identity);
    if (!parsed.ok()) {
      return absl::NotFoundError(parsed.status().message());
    }
    NORMLAB_ASSIGN_OR_RETURN(common::Subprocess process, common::Subprocess::Adopt(*parsed));
    // What it used under the earlier server counted there.
    const double cpu_before = process.GetUsage().value_or(common::Subprocess::Usage()).cpu_seconds;
    NORMLAB_RETURN_IF_ERROR(Add(attempt, std::move(process), 0, 0, cpu_before));
    return parsed->Age();
  }

  const Entry* FindEntry(const AttemptKey& attempt) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    for (const auto& [token, entry] : entries_) {
      if (entry.attempt.job_id == attempt.job_id && entry.attempt.number == attempt.number) {
        return &entry;
      }
    }
    return nullptr;
  }

  absl::Status Add(AttemptKey attempt,
                   common::Subprocess process,
                   int64_t kills_before,
                   int64_t memory_limit,
                   double cpu_before = 0,
                   int ranks = 1) ABSL_LOCKS_EXCLUDED(mu_) {
    absl::MutexLock lock(&mu_);
    const uint64_t token = next_token_++;
    epoll_event event = {};
    event.events = EPOLLIN;
    event.data.u64 = token;
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, process.pidfd(), &event) != 0) {
      const absl::Status status = absl::ErrnoToStatus(errno, "cannot watch the process");
      // Nobody would learn of its end, so it must not live.
      process.Signal(SIGKILL).IgnoreError();
      return status;
    }
    entries_.emplace(token, Entry{std::move(attempt), std::move(process), kills_before,
                                  memory_limit, cpu_before, ranks});
    return absl::OkStatus();
  }

  void Watch() {
    std::array<epoll_event, 16> events;
    while (true) {
      const int count =
          epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), -1);
      for (int i = 0; i < count; ++i) {
        if (events[static_cast<size_t>(i)].data.u64 == kStopToken) {
          return;
        }
        Ended(events[static_cast<size_t>(i)].data.u64);
      }
    }
  }

  void Ended(uint64_t token) ABSL_LOCKS_EXCLUDED(mu_, callback_mu_) {
    ProcessExit exit;
    {
      absl::MutexLock lock(&mu_);
      const auto found = entries_.find(token);
      if (found == entries_.end()) {
        return;
      }
      const Entry& entry = found->second;
      const absl::StatusOr<common::Subprocess::Exit> reaped = entry.process.Reap();
      if (!reaped.ok()) {
        return;  // a spurious wake-up; the level-triggered event comes again
      }
      exit.attempt = entry.attempt;
      exit.cause = reaped->by_signal ? ExitCause::kSignalled : ExitCause::kExited;
      exit.code = reaped->code;
      exit.description = reaped->ToString();
      if (entry.ranks > 1) {
        TellRanksExit(exit);
      }
      exit.peak_memory_bytes = reaped->peak_memory_bytes;
      // The kernel does not say whom it killed. A kill since the start, of a process that had half
      // its limit at least, is taken for this one's: a person's kill -9 meets that only beside a
      // machine out of memory.
      if (exit.cause == ExitCause::kSignalled && exit.code == SIGKILL &&
          KernelMemoryKills() > entry.memory_kills_before &&
          reaped->peak_memory_bytes > entry.memory_limit_bytes / 2) {
        exit.cause = ExitCause::kOutOfMemory;
        exit.description = "killed by the kernel";
      }
      // Of one that was adopted only what was seen last is known.
      ended_cpu_seconds_ += std::max(entry.cpu_seconds, reaped->cpu_seconds);
      epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, entry.process.pidfd(), nullptr);
      entries_.erase(found);
    }
    absl::MutexLock lock(&callback_mu_);
    if (callback_) {
      callback_(exit);
    }
  }

  const LocalProcessOptions options_;
  const common::UniqueFd epoll_;
  const common::UniqueFd stop_;

  absl::Mutex mu_;
  std::map<uint64_t, Entry> entries_ ABSL_GUARDED_BY(mu_);
  uint64_t next_token_ ABSL_GUARDED_BY(mu_) = kStopToken + 1;
  double ended_cpu_seconds_ ABSL_GUARDED_BY(mu_) = 0;

  // Held while the callback runs, which must not block: so SetExitCallback can promise that the old
  // one is done.
  absl::Mutex callback_mu_;
  ExitCallback callback_ ABSL_GUARDED_BY(callback_mu_);

  std::thread watcher_;  // last: it uses everything above
};

}  // namespace

absl::StatusOr<std::unique_ptr<Executor>> NewLocalProcessExecutor(LocalProcessOptions options) {
  if (access(options.worker_binary.c_str(), X_OK) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot run the worker program ", options.worker_binary,
                     "; install normlab-worker beside normlabd, or name it with --worker_binary"));
  }
  common::UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  common::UniqueFd stop(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u64 = 0;
  if (!epoll.valid() || !stop.valid() ||
      epoll_ctl(epoll.get(), EPOLL_CTL_ADD, stop.get(), &event) != 0) {
    return absl::ErrnoToStatus(errno, "cannot watch processes");
  }
  return std::make_unique<LocalProcessExecutor>(std::move(options), std::move(epoll),
                                                std::move(stop));
}

}  // namespace normlab::server
